package engineio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// unacknowledged is how long the kernel keeps sending to a peer that has gone, in ms.
const unacknowledged = 30_000

// tuneSocket does what it can; a Unix socket has no such option.
func tuneSocket(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, unacknowledged)
}

// send writes what the socket takes without waiting, and receive reads what is there. sendto(2) and recvfrom(2) reach it by
// a shorter way than write(2) and read(2), a tenth of the time that a broadcast takes; package unix has them without the
// count, or with an address.
func send(fd int, b []byte) (int, error) { return transfer(unix.SYS_SENDTO, fd, b) }

func receive(fd int, b []byte) (int, error) { return transfer(unix.SYS_RECVFROM, fd, b) }

func transfer(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
