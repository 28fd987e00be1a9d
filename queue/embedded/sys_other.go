//go:build !linux

package embedded

import (
	"os"
	"runtime"
)

// groupCommit is false where no call flushes a whole file system and reports errors: the server syncs each message.
const groupCommit = false

// Windows can't flush a directory through a handle that os.Open gives.
const canNotSyncDirs = runtime.GOOS == "windows"

// flush makes the high-water file durable; the server has synced its messages before it acknowledged them.
func flush(_, mark *os.File) error { return mark.Sync() }

// The kernel's run is not known here: after an unclean stop at level "memory" the worst is assumed.
func bootID() (id [16]byte) { return id }
