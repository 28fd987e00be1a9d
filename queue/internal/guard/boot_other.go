//go:build !linux

package guard

// Boottime returns 0: nobody knows.
func Boottime() int64 { return 0 }
