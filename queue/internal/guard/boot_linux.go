package guard

import "golang.org/x/sys/unix"

// Boottime returns the ns since boot, including sleep; 0 if nobody knows.
func Boottime() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return t.Nano()
}
