package faults

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The orders of a parent: which system calls fail from now on, and with what.
const (
	flushesFail = "flushes EIO"
	writesFail  = "writes ENOSPC" // into the middle of files, as all of the store's are
)

// failCalls has system calls of this process fail, in all of its threads and for good.
func failCalls(which string) error {
	calls, errno := []uint32{unix.SYS_SYNCFS, unix.SYS_FSYNC, unix.SYS_FDATASYNC}, unix.EIO
	switch which {
	case flushesFail:
	case writesFail:
		calls, errno = []uint32{unix.SYS_PWRITE64}, unix.ENOSPC
	default:
		return fmt.Errorf("%q is no order", which)
	}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number of the call
	for i, call := range calls {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(calls) - i), K: call})
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread() // the two calls belong together
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return nil
}
