// Package filelock keeps two processes from using one file at a time. The system lets go of a lock when its file is closed, and so also
// when the process is killed: a lock file that was left behind locks nobody out.
package filelock

import "errors"

// ErrInUse reports that the file is locked already, through another opening of it in this process or in another one.
var ErrInUse = errors.New("in use by another program, or another part of this one")
