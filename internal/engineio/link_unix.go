//go:build unix

package engineio

import (
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketLink works on the socket itself, in the runtime's poller. It holds no buffer while it waits, and it can write
// without waiting.
//
// Each goroutine of it waits once. The one that wakes takes what there is to read, and has to call deep for it: its stack
// grows, and stacks hardly shrink while they wait. So it leaves the waiting to a successor, whose stack is as small as
// stacks get, and stays with the work that it has read.
type socketLink struct {
	conn     socketConn
	raw      syscall.RawConn
	tasks    *tasks
	to       receiver
	readable func(fd uintptr) bool // look, bound once

	// Owned by the reader.
	buf *[readSize]byte // nil while waiting
	n   int
	err error
}

type socketConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// newLink returns a link for the connection. A type that wraps another may change what its methods do, so only the net
// package's own types are bypassed.
func newLink(conn net.Conn, t *tasks) link {
	var sc socketConn
	switch c := conn.(type) {
	case *net.TCPConn:
		sc = c
		c.SetKeepAlive(false) // the protocol pings
	case *net.UnixConn:
		sc = c
	default:
		return &plainLink{conn: conn, tasks: t}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return &plainLink{conn: conn, tasks: t}
	}
	raw.Control(tuneSocket)
	l := &socketLink{conn: sc, raw: raw, tasks: t}
	l.readable = l.look
	return l
}

func (l *socketLink) start(to receiver, initial []byte) {
	if !l.tasks.begin() {
		l.close()
		to.lost(net.ErrClosed)
		return
	}
	l.to = to
	if len(initial) > 0 {
		go l.first(initial)
		return
	}
	go l.run()
}

// first takes what arrived together with the handshake.
func (l *socketLink) first(initial []byte) {
	work := l.to.received(initial)
	go l.run()
	if work != nil {
		work.Run()
	}
}

func (l *socketLink) run() {
	err := l.raw.Read(l.readable)
	if err == nil {
		err = l.err
	}
	if err != nil {
		l.lost(err)
		return
	}
	deepen()
	work := l.to.received(l.buf[:l.n])
	reads.Put(l.buf)
	l.buf = nil
	go l.run()
	if work != nil {
		work.Run()
	}
}

// deepen makes the stack grow in one step, while there is little on it to be moved: to take an event and to run its
// handler is deep enough for it to grow twice or three times else.
//
//go:noinline
func deepen() {
	var frame [4 << 10]byte
	runtime.KeepAlive(&frame)
}

func (l *socketLink) lost(err error) {
	if l.buf != nil {
		reads.Put(l.buf)
		l.buf = nil
	}
	l.close()
	l.to.lost(err)
	l.tasks.done()
}

// look is a real look at the socket each time: the poller tells of changes only, and one may have come before the wait.
func (l *socketLink) look(fd uintptr) bool {
	if l.buf == nil {
		l.buf = reads.Get().(*[readSize]byte)
	}
	for {
		l.n, l.err = receive(int(fd), l.buf[:])
		switch {
		case l.err == nil && l.n > 0:
			return true
		case l.err == nil:
			l.err = io.EOF
			return true
		case l.err == unix.EINTR:
			continue
		case l.err != unix.EAGAIN:
			return true
		}
		reads.Put(l.buf)
		l.buf, l.err = nil, nil
		return false
	}
}

// writing is one use of a connection's write side. It is pooled for its functions, which would be made anew each time.
type writing struct {
	b       []byte
	n       int
	err     error
	once    func(fd uintptr)
	waiting func(fd uintptr) bool
}

var writings = sync.Pool{New: func() any {
	w := new(writing)
	w.once = func(fd uintptr) { w.attempt(fd) }
	w.waiting = w.attempt
	return w
}}

// attempt reports whether the kernel took some, or never will.
func (w *writing) attempt(fd uintptr) bool {
	for {
		w.n, w.err = send(int(fd), w.b)
		switch w.err {
		case nil:
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			w.n, w.err = 0, nil
			return false
		default:
			w.n = 0
			return true
		}
	}
}

// try does not ask the poller, which has a price. That is for those who wait.
func (l *socketLink) try(b []byte) (int, error) {
	w := writings.Get().(*writing)
	w.b = b
	return w.result(l.raw.Control(w.once))
}

func (l *socketLink) write(b []byte, patience time.Duration) error {
	for len(b) > 0 {
		l.conn.SetWriteDeadline(time.Now().Add(patience))
		w := writings.Get().(*writing)
		w.b = b
		n, err := w.result(l.raw.Write(w.waiting))
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// result frees w and returns what came of it, err being the connection's own word.
func (w *writing) result(err error) (int, error) {
	n := w.n
	if err != nil {
		n = 0
	} else {
		err = w.err
	}
	w.b, w.n, w.err = nil, 0, nil
	writings.Put(w)
	return n, err
}

func (l *socketLink) calm()       { l.conn.SetWriteDeadline(time.Time{}) }
func (l *socketLink) closeWrite() { l.conn.CloseWrite() }
func (l *socketLink) close()      { l.conn.Close() }
