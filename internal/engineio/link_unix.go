//go:build unix

package engineio

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketLink works on the socket itself, in the runtime's poller. It holds no buffer while it waits, and it can write
// without waiting.
//
// Its goroutine's stack is as small as stacks get as long as nothing has called deep. Stacks hardly shrink while they
// wait, so a link whose stack has grown goes on in a fresh goroutine when it is idle.
type socketLink struct {
	conn     socketConn
	raw      syscall.RawConn
	tasks    *tasks
	to       receiver
	readable func(fd uintptr) bool // look, bound once

	// Owned by the reader.
	buf  *[readSize]byte // nil while waiting
	n    int
	err  error
	slim bool // go on in a fresh goroutine when idle
	idle bool // came back for that
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
	l.to.received(initial)
	go l.run()
}

func (l *socketLink) run() {
	for {
		err := l.raw.Read(l.readable)
		if l.idle {
			l.idle, l.slim = false, false
			go l.run()
			return
		}
		if err == nil {
			err = l.err
		}
		if err != nil {
			l.lost(err)
			return
		}
		if l.to.received(l.buf[:l.n]) {
			l.slim = true
		}
	}
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
		l.n, l.err = unix.Read(int(fd), l.buf[:])
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
		l.idle = l.slim
		return l.idle
	}
}

// writing is one use of a connection's write side. It is pooled for its function, which would be made anew each time.
type writing struct {
	b     []byte
	wait  bool
	n     int
	err   error
	ready func(fd uintptr) bool
}

var writings = sync.Pool{New: func() any {
	w := new(writing)
	w.ready = w.attempt
	return w
}}

func (w *writing) attempt(fd uintptr) bool {
	for {
		w.n, w.err = unix.Write(int(fd), w.b)
		switch w.err {
		case nil:
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			w.n, w.err = 0, nil
			return !w.wait
		default:
			w.n = 0
			return true
		}
	}
}

func (l *socketLink) step(b []byte, wait bool) (int, error) {
	w := writings.Get().(*writing)
	w.b, w.wait = b, wait
	err := l.raw.Write(w.ready)
	n := w.n
	if err == nil {
		err = w.err
	} else {
		n = 0
	}
	w.b, w.n, w.err = nil, 0, nil
	writings.Put(w)
	return n, err
}

func (l *socketLink) try(b []byte) (int, error) { return l.step(b, false) }

func (l *socketLink) write(b []byte, patience time.Duration) error {
	for len(b) > 0 {
		l.conn.SetWriteDeadline(time.Now().Add(patience))
		n, err := l.step(b, true)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (l *socketLink) calm()       { l.conn.SetWriteDeadline(time.Time{}) }
func (l *socketLink) closeWrite() { l.conn.CloseWrite() }
func (l *socketLink) close()      { l.conn.Close() }
