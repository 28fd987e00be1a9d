//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/holdpost/holdpost/bench/load"
)

// idle: the memory that a connection holds while nothing happens on it: when it has only joined, and after it was used once.
func idle(t *trial) (figures, error) {
	return silence(t, 500*time.Millisecond)
}

// rest: the same after a heartbeat, at which a server may put away what it kept at hand for the next message.
func rest(t *trial) (figures, error) {
	return silence(t, 28*time.Second)
}

func silence(t *trial, wait time.Duration) (figures, error) {
	n := pick(t, 10_000, 1_000)
	// The first connections pay for what the server sets up once; they are gone again before the count begins.
	if err := warmConnections(t, 50); err != nil {
		return nil, err
	}
	before, err := t.peer.collected()
	if err != nil {
		return nil, err
	}
	l, err := load.NewLoop(t.peer.addr)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	settled := func() (load.Memory, error) {
		if err := l.Run(time.Minute, after(wait)); err != nil {
			return load.Memory{}, err
		}
		return t.peer.collected()
	}
	if err := l.Dial(n, dialAhead, dialTime); err != nil {
		return nil, err
	}
	fresh := before
	if wait < time.Second {
		if fresh, err = settled(); err != nil {
			return nil, err
		}
	}
	if err := echoOnce(l); err != nil {
		return nil, err
	}
	used, err := settled()
	if err != nil {
		return nil, err
	}
	f := figures{
		"rss":  float64(used.Rss-before.Rss) / float64(n),
		"pss":  float64(used.Pss-before.Pss) / float64(n),
		"base": float64(before.Rss),
	}
	if fresh != before {
		f["fresh"] = float64(fresh.Rss-before.Rss) / float64(n)
	}
	return f, nil
}

// handshake: from the SYN to the CONNECT reply. Closing is not part of it.
func handshake(t *trial) (figures, error) {
	if err := warmConnections(t, pick(t, 1000, 300)); err != nil {
		return nil, err
	}
	n := pick(t, 5000, 1000)
	l, err := load.NewLoop(t.peer.addr)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	s, err := begin(t.peer.pid)
	if err != nil {
		return nil, err
	}
	if err := l.Dial(n, dialAhead, dialTime); err != nil {
		return nil, err
	}
	return s.end(n)
}

// warmConnections opens, uses and closes n connections, and gives the server time to notice.
func warmConnections(t *trial, n int) error {
	l, err := load.NewLoop(t.peer.addr)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Dial(n, dialAhead, dialTime); err != nil {
		return err
	}
	if err := echoOnce(l); err != nil {
		return err
	}
	l.Close()
	time.Sleep(300 * time.Millisecond)
	return nil
}

// echoOnce has one message echoed on each connection.
func echoOnce(l *load.Loop) error {
	want, got := `31["`+payload(64)+`"]`, 0
	l.OnText = func(c *load.Conn, packet []byte) {
		got++
		if string(packet) != want {
			l.Fail(fmt.Errorf("connection %d: got %q, want %q", c.Index, packet, want))
		}
	}
	event := []byte(`421["echo","` + payload(64) + `"]`)
	for i, c := range l.Conns() {
		if err := c.Send(event); err != nil {
			return err
		}
		if err := l.Run(dialTime, func() bool { return i-got < dialAhead }); err != nil {
			return err
		}
	}
	return l.Run(dialTime, func() bool { return got == len(l.Conns()) })
}

// after reports true once d has passed.
func after(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return !time.Now().Before(end) }
}

// payload is n bytes of text that need no escaping in JSON.
func payload(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return string(b)
}
