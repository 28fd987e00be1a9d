package engineio

import "golang.org/x/sys/unix"

// unacknowledged is how long the kernel keeps sending to a peer that has gone, in ms.
const unacknowledged = 30_000

// tuneSocket does what it can; a Unix socket has no such option.
func tuneSocket(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, unacknowledged)
}
