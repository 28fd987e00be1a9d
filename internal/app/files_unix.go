//go:build linux || darwin || freebsd

package app

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFiles returns how many files the process may open; 0 is no limit that matters.
func maxFiles() int {
	var limit syscall.Rlimit // which the Go runtime has raised as far as it may
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 0
	}
	return int(limit.Cur)
}

// freeBytes returns how much room there is on the disk of a directory.
func freeBytes(dir string) (uint64, error) {
	var s unix.Statfs_t
	err := unix.Statfs(dir, &s)
	return uint64(s.Bavail) * uint64(s.Bsize), err
}
