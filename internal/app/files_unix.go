//go:build unix

package app

import "syscall"

// maxFiles returns how many files the process may open; 0 is no limit that matters.
func maxFiles() int {
	var limit syscall.Rlimit // which the Go runtime has raised as far as it may
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 0
	}
	return int(limit.Cur)
}
