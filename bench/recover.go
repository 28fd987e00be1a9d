//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/holdpost/holdpost/bench/load"
)

const (
	missedEvents = 50
	recoverTime  = 3 * time.Minute
)

// recoverAll: clients in a hundred rooms lose their connections and miss events; the server is killed and started again, unless it
// keeps what they missed in memory; all come back at once.
func recoverAll(t *trial) (figures, error) {
	n, rooms := pick(t, 10_000, 1_000), 100
	guests := make([]guest, n)
	if err := enterRooms(t, guests, rooms); err != nil {
		return nil, err
	}
	if err := talk(t, rooms); err != nil {
		return nil, err
	}
	if t.restart != nil {
		if err := t.restart(); err != nil {
			return nil, err
		}
	}
	l, err := load.NewLoop(t.peer.addr)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.Auth = func(i int) string { return fmt.Sprintf(`{"pid":%q,"offset":%q}`, guests[i].pid, guests[i].offset) }
	got := make([]int, n)
	l.OnText = func(c *load.Conn, packet []byte) {
		if number, err := eventNumber(packet, ""); err != nil || number != got[c.Index] {
			l.Fail(fmt.Errorf("connection %d: waits for event %d, got %q", c.Index, got[c.Index], packet))
		}
		got[c.Index]++
	}
	s, err := begin(t.peer.pid)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := l.Dial(n, dialAhead, recoverTime); err != nil {
		return nil, err
	}
	took := time.Since(start)
	f, err := s.end(n)
	if err != nil {
		return nil, err
	}
	for i, c := range l.Conns() {
		pid, err := privateID(c.Reply)
		if err != nil {
			return nil, err
		}
		if pid != guests[i].pid || got[i] != missedEvents {
			return nil, fmt.Errorf("client %d: recovered %v with %d events", i, pid == guests[i].pid, got[i])
		}
	}
	peak, err := load.ReadPeak(t.peer.pid)
	if err != nil {
		return nil, err
	}
	return figures{"time": float64(took.Milliseconds()), "cpu": f["cpu"], "peak": float64(peak)}, nil
}

// enterRooms connects clients, has each join a room and receive one event, and breaks their connections.
func enterRooms(t *trial, guests []guest, rooms int) error {
	l, err := load.NewLoop(t.peer.addr)
	if err != nil {
		return err
	}
	defer l.Close()
	joined, greeted := 0, 0
	l.OnText = func(c *load.Conn, packet []byte) {
		if string(packet) == "31[]" {
			joined++
			return
		}
		var event []string
		if err := json.Unmarshal(bytes.TrimPrefix(packet, []byte("2")), &event); err != nil || len(event) != 3 {
			l.Fail(fmt.Errorf("greeting: %q", packet))
			return
		}
		guests[c.Index].offset = event[2]
		greeted++
	}
	if err := l.Dial(len(guests), dialAhead, dialTime); err != nil {
		return err
	}
	conns := l.Conns()
	for i, c := range conns {
		if guests[i].pid, err = privateID(c.Reply); err != nil {
			return err
		}
		if err := c.Send([]byte(`421["join","r` + strconv.Itoa(i%rooms) + `"]`)); err != nil {
			return err
		}
	}
	if err := l.Run(dialTime, func() bool { return joined == len(guests) }); err != nil {
		return err
	}
	for room := range rooms {
		if err := conns[0].Send(fmt.Appendf(nil, `42["room","r%d","hello"]`, room)); err != nil {
			return err
		}
	}
	return l.Run(dialTime, func() bool { return greeted == len(guests) })
}

// guest is what a client keeps for its return.
type guest struct{ pid, offset string }

func privateID(reply []byte) (string, error) {
	var v struct{ PID string }
	if err := json.Unmarshal(reply, &v); err != nil || v.PID == "" {
		return "", errors.Join(fmt.Errorf("reply %q has no private id", reply), err)
	}
	return v.PID, nil
}

// talk emits to every room while nobody is there.
func talk(t *trial, rooms int) error {
	l, err := load.NewLoop(t.peer.addr)
	if err != nil {
		return err
	}
	defer l.Close()
	last := false
	l.OnText = func(_ *load.Conn, packet []byte) { last = bytes.HasPrefix(packet, []byte("31[")) }
	if err := l.Dial(1, 1, dialTime); err != nil {
		return err
	}
	c := l.Conns()[0]
	for i := range missedEvents {
		for room := range rooms {
			if err := c.Send(fmt.Appendf(nil, `42["room","r%d","%08d"]`, room, i)); err != nil {
				return err
			}
		}
	}
	if err := c.Send([]byte(`421["echo","done"]`)); err != nil { // answered once all before it is stored
		return err
	}
	return l.Run(dialTime, func() bool { return last })
}
