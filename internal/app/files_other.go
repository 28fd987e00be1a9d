//go:build !linux && !darwin && !freebsd

package app

import "errors"

// maxFiles returns how many files the process may open; 0 is no limit that matters.
func maxFiles() int { return 0 }

// freeBytes returns how much room there is on the disk of a directory.
func freeBytes(string) (uint64, error) { return 0, errors.ErrUnsupported }
