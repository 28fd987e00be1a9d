package client_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/queue"
)

// What a program has in hand when its connection is lost is not yielded to it again, and answered over the next connection.
func TestInHandOverALostConnection(t *testing.T) {
	p := newPost(t)
	boss := p.socket("")
	conns := make(chan net.Conn, 10)
	cl := client.New("http://test", &client.Config{
		Auth: map[string]string{"client": "worker"}, Transports: []string{"websocket"}, ReconnectDelay: time.Millisecond,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			conn, err := p.host.Dial()
			conns <- conn
			return conn, err
		},
	})
	defer cl.Close()
	s := cl.Of("/")
	p.connect(s)
	worker := subscribe(t, s, client.Subscription{Topic: "jobs", Manual: true})
	for n := range 3 {
		p.publish(boss, "jobs", n)
	}
	first, second := nextOf(t, worker, 0), nextOf(t, worker, 1)
	(<-conns).Close()
	third := nextOf(t, worker, 2)
	p.publish(boss, "jobs", 3)
	fourth := nextOf(t, worker, 3) // behind what has come again
	for _, d := range []*client.Delivery{first, second, third, fourth} {
		d.Ack()
	}
	p.wantAllHandled("jobs", "worker")
}

// What a program has in hand for too long is yielded again; unless it was handled while that waited.
func TestInHandForTooLong(t *testing.T) {
	p := newPost(t)
	s := p.socket("worker")
	worker := subscribe(t, s, client.Subscription{Topic: "jobs", Manual: true, AckTimeout: 10 * time.Millisecond})
	p.publish(s, "jobs", 0)
	slow := nextOf(t, worker, 0)
	nextOf(t, worker, 0).Ack()
	slow.Ack()
	p.wantAllHandled("jobs", "worker")
}

// nextOf takes the next event, which has to have a number.
func nextOf(t *testing.T, worker *client.Consumer, want int) *client.Delivery {
	t.Helper()
	for d, err := range worker.Deliveries(soon(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if n := number(t, d); n != want {
			t.Fatalf("event %d, want %d", n, want)
		}
		return d
	}
	panic("unreachable")
}

// wantAllHandled waits until everything in a queue is acknowledged.
func (p *post) wantAllHandled(topic, name string) {
	p.t.Helper()
	q, err := p.store.Queue(soon(p.t), queue.QueueConfig{Topic: topic, Name: name, MustExist: true})
	for unread := -1; unread != 0 && err == nil; {
		unread, err = q.Unread(soon(p.t))
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// The server asks for an ack before it lets the socket in, as it does for what was missed: it has its answer when the socket is in.
func TestAckBeforeTheSocketIsIn(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		var got record
		var asking sync.WaitGroup
		w.main.Use(func(ctx context.Context, s *holdpost.Socket) error {
			asking.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				answer, err := s.EmitWithAck(ctx, "early")
				got.add("%s %v", answer.Raw(0), err)
			})
			time.Sleep(time.Second)
			return nil
		})
		s := w.client(client.Config{}).Of("/")
		s.On("early", func(context.Context, holdpost.Args) ([]any, error) { return []any{"yes"}, nil })
		w.connect(s)
		asking.Wait()
		got.want(t, "the server hears", `"yes" <nil>`)
	})
}
