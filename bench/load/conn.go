//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

type state uint8

const (
	connecting state = iota // TCP
	upgrading               // request sent
	opening                 // 101 came: the open packet is due
	joining                 // CONNECT sent
	joined
)

// Conn is one WebSocket connection with one socket in the namespace "/".
type Conn struct {
	Index int // in Loop.Conns
	// Data is the scenario's own.
	Data any
	// Reply is the payload of the CONNECT reply.
	Reply []byte

	l     *Loop
	fd    int
	state state
	key   [4]byte
	rest  []byte // incomplete input
	out   []byte // what the kernel did not take
	frame []byte // reused to build frames
}

// Send sends Engine.IO texts (with their type digit), one frame each, all in one write.
func (c *Conn) Send(texts ...[]byte) error {
	b := c.frame[:0]
	for _, t := range texts {
		b = AppendFrame(b, OpText, c.key, t)
	}
	c.frame = b
	return c.write(b)
}

func (c *Conn) write(b []byte) error {
	if len(c.out) > 0 {
		c.out = append(c.out, b...)
		return nil
	}
	n, err := unix.Write(c.fd, b)
	if err != nil {
		if err != unix.EAGAIN {
			return fmt.Errorf("write: %w", err)
		}
		n = 0
	}
	if n < len(b) {
		c.out = append(c.out, b[n:]...)
	}
	return nil
}

// handle takes an event of the edge-triggered registration.
func (c *Conn) handle(ev uint32) error {
	if ev&unix.EPOLLOUT != 0 {
		if c.state == connecting {
			if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
				return fmt.Errorf("connect: %w", errors.Join(err, unix.Errno(code)))
			}
			c.state = upgrading
			if err := c.write(c.l.request); err != nil {
				return err
			}
		} else if len(c.out) > 0 {
			b := c.out
			c.out = nil
			if err := c.write(b); err != nil {
				return err
			}
		}
	}
	if ev&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0 {
		return c.read(ev&unix.EPOLLIN != ev&^unix.EPOLLOUT)
	}
	return nil
}

// read takes all that is there. After a short read the socket is drained (epoll(7), stream-oriented files), unless the
// event says that the end of the stream comes behind it.
func (c *Conn) read(ended bool) error {
	for {
		n, err := unix.Read(c.fd, c.l.buf)
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return errors.New("closed by the server")
		}
		b := c.l.buf[:n]
		if len(c.rest) > 0 {
			c.rest = append(c.rest, b...)
			b = c.rest
		}
		used, err := c.take(b)
		if err != nil {
			return err
		}
		if used == len(b) {
			c.rest = nil
		} else {
			c.rest = append([]byte(nil), b[used:]...)
		}
		if n < len(c.l.buf) && !ended {
			return nil
		}
	}
}

// take consumes what is complete at the head of b.
func (c *Conn) take(b []byte) (used int, err error) {
	if c.state == upgrading {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			return 0, nil
		}
		if err := checkUpgrade(b[:end]); err != nil {
			return 0, err
		}
		c.state = opening
		used = end + 4
	}
	for {
		op, payload, size, err := nextFrame(b[used:])
		if err != nil || size == 0 {
			return used, err
		}
		used += size
		if op != OpText || len(payload) == 0 {
			return used, fmt.Errorf("unexpected frame: opcode %d, %q", op, payload)
		}
		if err := c.text(payload); err != nil {
			return used, err
		}
	}
}

// text takes one Engine.IO packet.
func (c *Conn) text(b []byte) error {
	switch {
	case b[0] == '2': // Engine.IO v4, heartbeat: the server pings
		return c.Send([]byte("3"))
	case b[0] == '0' && c.state == opening:
		c.state = joining
		if c.l.Auth == nil {
			return c.Send([]byte("40"))
		}
		return c.Send(append([]byte("40"), c.l.Auth(c.Index)...))
	case bytes.HasPrefix(b, []byte(`40{"sid":`)) && c.state == joining:
		c.state = joined
		c.Reply = bytes.Clone(b[2:])
		c.l.ready++
	case b[0] == '4' && (c.state == joined || c.state == joining): // what a recovered socket missed comes before the reply
		c.l.OnText(c, b[1:])
	default:
		return fmt.Errorf("unexpected packet: %q", b)
	}
	return nil
}

func (c *Conn) close() {
	unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(c.fd)
}
