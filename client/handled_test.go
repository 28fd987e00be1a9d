package client_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdpost/holdpost/client"
)

// mute is a connection whose other side hears nothing any more once it says so.
type mute struct {
	net.Conn
	deaf *atomic.Bool
}

func (m mute) Write(b []byte) (int, error) {
	if m.deaf.Load() {
		return len(b), nil
	}
	return m.Conn.Write(b)
}

// What a worker has handled is not handled again by the next run of its program, though the server never heard of it; and what it
// has not comes.
func TestHandledOverARestart(t *testing.T) {
	for _, remembers := range []bool{true, false} {
		t.Run(fmt.Sprint(remembers), func(t *testing.T) {
			p := newPost(t)
			path := ""
			if remembers {
				path = filepath.Join(t.TempDir(), "handled")
			}
			author := p.socket("")
			for i := range 30 {
				p.publish(author, "jobs", i)
			}
			var got []int
			// run is one life of the worker: it handles events up to a number, and then the server hears nothing of them.
			run := func(heard, upto int) {
				var deaf atomic.Bool
				config := client.Config{Auth: map[string]string{"client": "worker"}, Dial: func(context.Context, string, string) (net.Conn, error) {
					conn, err := p.host.Dial()
					return mute{conn, &deaf}, err
				}}
				cl := client.New("http://test", &config)
				defer cl.Close()
				s := cl.Of("/")
				p.connect(s)
				u := subscribe(t, s, client.Subscription{Topic: "jobs", From: "first", HandledFile: path})
				for d, err := range u.Deliveries(soon(t)) {
					if err != nil {
						t.Fatal(err)
					}
					n := number(t, d)
					got = append(got, n)
					if n >= heard {
						deaf.Store(true)
					}
					d.Ack()
					if n == upto {
						return
					}
				}
			}
			run(5, 12)
			run(15, 20)
			run(30, 29)
			if twice := len(got) - len(slices.Compact(slices.Sorted(slices.Values(got)))); remembers != (twice == 0) {
				t.Errorf("%d events were handled twice: %v", twice, got)
			}
			slices.Sort(got)
			if all := slices.Compact(got); len(all) != 30 {
				t.Errorf("handled %v", all)
			}
		})
	}
}

// The file holds the last few thousand offsets, survives a torn end, and belongs to one consumer.
func TestHandledFile(t *testing.T) {
	p := newPost(t)
	s := p.socket("worker")
	path := filepath.Join(t.TempDir(), "handled")
	line := func(i int) string { return fmt.Sprintf("~%020d\n", i) }
	var many strings.Builder
	for i := range 8190 {
		many.WriteString(line(i))
	}
	for _, c := range []struct{ name, text, says string }{
		{"new", "", ""},
		{"torn", line(1) + "~00", ""},
		{"something else", "hello\n", "is no offset"},
		{"full", many.String(), ""},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := s.Subscribe(soon(t), client.Subscription{Topic: "jobs", HandledFile: path})
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if _, err := s.Subscribe(soon(t), client.Subscription{Topic: "others", HandledFile: path}); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: opened twice: %v", c.name, err)
		}
		for i := range 5 {
			p.publish(s, "jobs", i)
		}
		handled := 0
		for d, err := range u.Deliveries(soon(t)) {
			if err != nil {
				t.Fatal(err)
			}
			d.Ack()
			if handled++; handled == 5 {
				break
			}
		}
		if err := u.Unsubscribe(soon(t)); err != nil {
			t.Fatal(err)
		}
		again, err := s.Subscribe(soon(t), client.Subscription{Topic: "others", HandledFile: path}) // it was let go
		if err != nil {
			t.Errorf("%s: again: %v", c.name, err)
		} else if err := again.Unsubscribe(soon(t)); err != nil {
			t.Error(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Count(c.text, "\n") + 5
		if c.name == "full" {
			want = 4096
		}
		if n := strings.Count(string(b), "\n"); n < want || n > want+3 || !strings.HasSuffix(string(b), "\n") { // in one batch or in several
			t.Errorf("%s: %d lines, want %d", c.name, n, want)
		}
	}
}
