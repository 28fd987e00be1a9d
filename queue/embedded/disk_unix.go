//go:build linux || darwin || freebsd

package embedded

import (
	"os"

	"golang.org/x/sys/unix"
)

// diskRoom returns the size of dir's file system and what this process may still write to it, in bytes.
func diskRoom(dir string) (size, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, os.NewSyscallError("statfs", err)
	}
	return int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize), nil
}
