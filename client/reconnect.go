package client

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/packet"
)

// live keeps a connection until nobody wants it any more, or the attempts to have one are used up.
func (c *Client) live(v *life) {
	defer close(v.ended)
	defer v.stop()
	if v.after != nil {
		<-v.after
	}
	for failed := 1; ; failed++ {
		lasted, err := c.session(v)
		if v.ctx.Err() != nil {
			return
		}
		if lasted >= c.config.ReconnectMaxDelay { // otherwise a server that hangs up at once would be asked for ever
			failed = 1
		}
		wait := c.config.delay(failed)
		if e, ok := errors.AsType[*DialError](err); ok {
			if !e.passing() && !c.wasConnected() {
				c.giveUp(err)
				return
			}
			wait = max(wait, e.RetryAfter)
		}
		if limit := c.config.ReconnectAttempts; limit < 0 || limit > 0 && failed > limit {
			c.giveUp(err)
			return
		}
		if lasted == 0 {
			for _, s := range c.all() {
				s.failed(err)
			}
		}
		if !sleep(v.ctx, wait) {
			return
		}
	}
}

// delay returns the time to wait after so many failures in a row.
func (c *Config) delay(failed int) time.Duration {
	d := float64(c.ReconnectDelay) * math.Pow(c.ReconnectFactor, float64(failed-1))
	d = min(d, float64(c.ReconnectMaxDelay))
	return time.Duration(d * (1 + c.ReconnectJitter*(2*rand.Float64()-1)))
}

func (c *Client) wasConnected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected
}

// giveUp ends all sockets.
func (c *Client) giveUp(err error) {
	for _, s := range c.all() {
		s.finish(err, false)
	}
}

// session opens a session and reads it until it ends. It returns how long it lasted, and why it ended or did not begin.
func (c *Client) session(v *life) (lasted time.Duration, err error) {
	if c.invalid != nil {
		return 0, c.invalid
	}
	var l *link
	c.aside(func() { l, err = c.dial(v.ctx) })
	if l == nil {
		return 0, err
	}
	if !c.adopt(v, l) {
		l.end(holdpost.ReasonClientDisconnect, nil)
	}
	c.aside(func() {
		for _, s := range c.all() {
			s.join(l)
		}
	})
	if l.switching != nil {
		c.spawn(l.upgrade)
	}
	why := l.read()
	c.mu.Lock()
	if c.link == l {
		c.link = nil
	}
	c.mu.Unlock()
	for _, s := range c.all() {
		s.lost(l, why)
	}
	return max(time.Since(l.opened), 1), why
}

// adopt makes l the session that sockets join, unless nobody wants one any more.
func (c *Client) adopt(v *life, l *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life != v {
		return false
	}
	c.link, c.connected = l, true
	return true
}

// receive hands a packet to its socket. What is for none is dropped: the server may not know yet that it has left.
func (c *Client) receive(l *link, p *packet.Packet) error {
	c.mu.Lock()
	s := c.sockets[p.Namespace]
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.receive(l, p)
}

// sleep waits, and reports false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
