//go:build linux

package load

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Loop drives connections to one server from the caller's goroutine.
type Loop struct {
	// Static after NewLoop.
	addr    unix.SockaddrInet4
	host    string
	request []byte

	// Auth returns the payload of a connection's CONNECT; nil: there is none.
	Auth func(index int) string
	// OnText is handed each Socket.IO packet, without the Engine.IO digit. The bytes are valid until it returns.
	OnText func(c *Conn, packet []byte)
	// Now is the time at which the bytes being handled were found.
	Now time.Time

	epfd   int
	byFD   []*Conn
	conns  []*Conn
	ready  int
	buf    []byte
	events []unix.EpollEvent
	err    error
}

// NewLoop prepares connections to host:port. Nothing is opened before Dial but the loop's own descriptor.
func NewLoop(hostport string) (*Loop, error) {
	addr, err := parseAddr(hostport)
	if err != nil {
		return nil, err
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	return &Loop{
		addr:    addr,
		host:    hostport,
		request: upgradeRequest(hostport),
		epfd:    fd,
		buf:     make([]byte, 256<<10),
		events:  make([]unix.EpollEvent, 512),
	}, nil
}

// Conns returns the connections in the order of their opening. Each is in the namespace "/" once Dial has returned.
func (l *Loop) Conns() []*Conn { return l.conns }

var errTimeout = errors.New("timed out")

// Run handles what arrives until done reports true, which is asked after each batch of events. A connection that breaks,
// or the timeout, ends it with an error.
func (l *Loop) Run(timeout time.Duration, done func() bool) error {
	deadline := time.Now().Add(timeout)
	for l.err == nil {
		if done() {
			return nil
		}
		n, err := unix.EpollWait(l.epfd, l.events, 50)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for i := range max(n, 0) {
			l.Now = time.Now()
			c := l.byFD[l.events[i].Fd]
			if err := c.handle(l.events[i].Events); err != nil {
				l.err = fmt.Errorf("connection %d: %w", c.Index, err)
				break
			}
		}
		if n <= 0 {
			l.Now = time.Now()
		}
		if l.Now.After(deadline) {
			return errTimeout
		}
	}
	return l.err
}

// Fail makes Run return the error: the way for OnText to report a wrong answer.
func (l *Loop) Fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

// Close resets every connection, so that none lingers in TIME_WAIT, and ends the loop. A second call does nothing.
func (l *Loop) Close() {
	if l.epfd < 0 {
		return
	}
	for _, c := range l.conns {
		c.close()
	}
	l.conns = nil
	unix.Close(l.epfd)
	l.epfd = -1
}
