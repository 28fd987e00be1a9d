package embedded

import (
	"os"

	"golang.org/x/sys/windows"
)

// diskRoom returns the size of dir's volume and what this process may still write to it, in bytes.
func diskRoom(dir string) (size, free int64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var total, avail uint64
	if err := windows.GetDiskFreeSpaceEx(name, &avail, &total, nil); err != nil {
		return 0, 0, os.NewSyscallError("GetDiskFreeSpaceEx", err)
	}
	return int64(total), int64(avail), nil
}
