package client

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lock takes the file for this process, and this opening of it, until it is closed.
func lock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errInUse
	}
	return os.NewSyscallError("LockFileEx", err)
}
