//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/holdpost/holdpost/bench/load"
)

// firstAck makes all ack ids of a window three digits long.
const firstAck = 100

// window is the state of one connection: depth messages go out in one write, and the next ones once all are acknowledged.
type window struct {
	sent   time.Time
	acked  uint32 // bit i: id firstAck+i
	events [][]byte
}

// emit: messages with an ack, depth of them outstanding on each of 200 connections.
func emit(depth int) func(*trial) (figures, error) {
	return func(t *trial) (figures, error) {
		l, err := load.NewLoop(t.peer.addr)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		if err := l.Dial(200, dialAhead, dialTime); err != nil {
			return nil, err
		}
		e := &emitter{l: l, depth: depth, answer: []byte(`["` + payload(64) + `"]`)}
		l.OnText = e.ack
		for _, c := range l.Conns() {
			w := &window{}
			for i := range depth {
				w.events = append(w.events, fmt.Appendf(nil, `42%d["echo","%s"]`, firstAck+i, payload(64)))
			}
			c.Data = w
			if err := e.send(c, time.Now()); err != nil {
				return nil, err
			}
		}
		// The npm server needs a while until its code is compiled.
		if err := l.Run(dialTime, after(pick(t, 1500*time.Millisecond, 700*time.Millisecond))); err != nil {
			return nil, err
		}
		e.count, e.latency = 0, make([]int64, 0, 1<<20)
		s, err := begin(t.peer.pid)
		if err != nil {
			return nil, err
		}
		if err := l.Run(dialTime, after(pick(t, 3*time.Second, time.Second))); err != nil {
			return nil, err
		}
		f, err := s.end(e.count)
		if err != nil {
			return nil, err
		}
		f.latencies(e.latency)
		return f, nil
	}
}

type emitter struct {
	l       *load.Loop
	depth   int
	answer  []byte
	count   int
	latency []int64
}

func (e *emitter) send(c *load.Conn, now time.Time) error {
	w := c.Data.(*window)
	w.sent, w.acked = now, 0
	return c.Send(w.events...)
}

func (e *emitter) ack(c *load.Conn, packet []byte) {
	w := c.Data.(*window)
	i, err := ackIndex(packet, e.depth)
	if err != nil || w.acked&(1<<i) != 0 || !bytes.Equal(packet[4:], e.answer) {
		e.l.Fail(fmt.Errorf("connection %d: unexpected answer %q", c.Index, packet))
		return
	}
	w.acked |= 1 << i
	e.count++
	if len(e.latency) < cap(e.latency) {
		e.latency = append(e.latency, e.l.Now.Sub(w.sent).Nanoseconds())
	}
	if w.acked == 1<<e.depth-1 {
		if err := e.send(c, e.l.Now); err != nil {
			e.l.Fail(err)
		}
	}
}

// ackIndex reads the id of an ack, which is 3 and three digits: the index within the window.
func ackIndex(packet []byte, depth int) (int, error) {
	if len(packet) < 4 || packet[0] != '3' {
		return 0, errors.New("not an ack")
	}
	id, err := strconv.Atoi(string(packet[1:4]))
	if err != nil || id < firstAck || id >= firstAck+depth {
		return 0, errors.New("not an id of the window")
	}
	return id - firstAck, nil
}

// broadcast: bursts of events from one client to all 1,000, each burst delivered everywhere before the next is sent.
func broadcast(burst int) func(*trial) (figures, error) {
	return func(t *trial) (figures, error) {
		l, err := load.NewLoop(t.peer.addr)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		const receivers = 1000
		if err := l.Dial(receivers, dialAhead, dialTime); err != nil {
			return nil, err
		}
		next := make([]int, receivers) // the number of the event that each connection waits for
		delivered, sent := 0, 0
		rest := payload(128 - 8)
		l.OnText = func(c *load.Conn, packet []byte) {
			if n, err := eventNumber(packet, rest); err != nil || n != next[c.Index] {
				l.Fail(fmt.Errorf("connection %d: waits for event %d, got %q", c.Index, next[c.Index], packet))
			}
			next[c.Index]++
			delivered++
		}
		var latency []int64
		rounds := func(done func() bool) error {
			for !done() {
				var events [][]byte
				for range burst {
					events = append(events, fmt.Appendf(nil, `42["bcast","%08d%s"]`, sent, rest))
					sent++
				}
				start := time.Now()
				if err := l.Conns()[0].Send(events...); err != nil {
					return err
				}
				if err := l.Run(dialTime, func() bool { return delivered == sent*receivers }); err != nil {
					return err
				}
				latency = append(latency, time.Since(start).Nanoseconds())
			}
			return nil
		}
		if err := rounds(after(pick(t, time.Second, 500*time.Millisecond))); err != nil {
			return nil, err
		}
		first := delivered
		latency = nil
		s, err := begin(t.peer.pid)
		if err != nil {
			return nil, err
		}
		if err := rounds(after(pick(t, 3*time.Second, time.Second))); err != nil {
			return nil, err
		}
		f, err := s.end(delivered - first)
		if err != nil {
			return nil, err
		}
		f.latencies(latency)
		return f, nil
	}
}

// eventNumber reads the number at the head of a delivered payload, and checks the rest. With recovery an offset follows.
func eventNumber(packet []byte, rest string) (int, error) {
	const head = `2["msg","`
	number, ok := bytes.CutPrefix(packet, []byte(head))
	if !ok || len(number) < 8 {
		return 0, errors.New("not the event that was sent")
	}
	tail, ok := bytes.CutPrefix(number[8:], []byte(rest))
	if !ok || string(tail) != `"]` && !bytes.HasPrefix(tail, []byte(`","`)) {
		return 0, errors.New("not the event that was sent")
	}
	return strconv.Atoi(string(number[:8]))
}
