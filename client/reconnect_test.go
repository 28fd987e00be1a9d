package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
)

// A client comes back by itself, and what was emitted meanwhile is sent in order, before its connect handlers run.
func TestReconnect(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
		var server, mine record
		w.main.On("n", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
			server.add("%s", args.Raw(0))
			return []any{args}, nil
		})
		s := w.client(cc).Of("/")
		s.OnConnect(func(context.Context) { mine.add("connect"); s.Emit(background, "n", "again") })
		s.OnDisconnect(func(why error) {
			e, ok := errors.AsType[*holdpost.DisconnectError](why)
			mine.add("disconnect %v %v", ok && e.Reason != holdpost.ReasonClientDisconnect, s.Err())
		})
		w.connect(s)
		synctest.Wait()
		id := s.ID()
		w.cut(true)
		synctest.Wait()
		if cc.Transports[0] == "websocket" && (s.Connected() || s.ID() != "") {
			t.Error("connected still")
		}
		time.Sleep(time.Second / 4)
		for i := range 3 {
			if err := s.Emit(background, "n", i); err != nil {
				t.Error(err)
			}
		}
		answered := make(chan error, 1)
		go func() { _, err := s.EmitWithAck(background, "n", 3); answered <- err }()
		time.Sleep(time.Second)
		w.up()
		if err := <-answered; err != nil {
			t.Errorf("answer to what was emitted while away: %v", err)
		}
		synctest.Wait()
		if !s.Connected() || s.ID() == id || s.Recovered() {
			t.Errorf("connected %v, as %q after %q, recovered %v", s.Connected(), s.ID(), id, s.Recovered())
		}
		server.want(t, "at the server", `"again"`, "0", "1", "2", "3", `"again"`)
		mine.want(t, "here", "connect", "disconnect true <nil>", "connect")
	})
}

// The delays grow to their maximum, and start over once a connection has lasted.
func TestBackOff(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		w.cut(true)
		s := w.client(client.Config{ReconnectJitter: -1, Transports: []string{"websocket"}}).Of("/")
		began := time.Now()
		var at []time.Duration
		s.OnError(func(error) { at = append(at, time.Since(began)) })
		connected := make(chan error, 1)
		go func() { connected <- s.Connect(background) }()
		time.Sleep(20*time.Second + time.Millisecond)
		synctest.Wait()
		want := []time.Duration{0, 1, 3, 7, 12, 17}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
		w.up()
		if err := <-connected; err != nil || time.Since(began) != 22*time.Second {
			t.Errorf("connected at %v: %v", time.Since(began), err)
		}
		time.Sleep(6 * time.Second)
		began, at = time.Now(), nil
		w.cut(true)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if want := want[1:3]; !slices.Equal(at, want) {
			t.Errorf("attempts after a connection at %v, want %v", at, want)
		}
	})
}

// Many clients do not come back at the same moment: the first delays fill what jitter allows evenly.
func TestJitterSpreadsReconnects(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		const n = 300
		cut := time.Time{}
		var tenths [10]int
		back := make(chan time.Duration, n)
		for range n {
			s := w.client(client.Config{Transports: []string{"websocket"}}).Of("/")
			s.OnConnect(func(context.Context) {
				if !cut.IsZero() {
					back <- time.Since(cut)
				}
			})
			w.connect(s)
		}
		synctest.Wait()
		cut = time.Now()
		w.cut(false)
		for range n {
			d := <-back
			if d < 500*time.Millisecond || d >= 1500*time.Millisecond {
				t.Fatalf("back after %v", d)
			}
			tenths[(d-500*time.Millisecond)/(100*time.Millisecond)]++
		}
		for i, k := range tenths {
			if k < 5 || k > 90 { // 30 expected; these have a chance of less than 1e-9
				t.Errorf("%d of %d came back in tenth %d: %v", k, n, i, tenths)
			}
		}
	})
}

func TestAttempts(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		w.cut(true)
		s := w.client(client.Config{ReconnectAttempts: 3}).Of("/")
		err := s.Connect(background)
		dialError(t, "three attempts", err, "unreachable")
		if n := w.dialed(); n != 4 || !errors.Is(err, errDown) || !errors.Is(s.Err(), err) {
			t.Errorf("%d attempts, %v; then %v", n, err, s.Err())
		}
		w.up()
		var told record
		s.OnDisconnect(func(why error) { told.add("ended %v", errors.Is(s.Err(), why)) })
		w.connect(s) // again
		w.cut(true)
		time.Sleep(time.Minute)
		if err := s.Emit(background, "x"); !errors.Is(err, client.ErrClosed) || !errors.Is(err, errDown) {
			t.Errorf("emit after the end: %v", err)
		}
		off := w.client(client.Config{ReconnectAttempts: -1}).Of("/")
		w.up()
		w.connect(off)
		dials := w.dialed()
		w.cut(false)
		time.Sleep(time.Minute)
		if e, ok := errors.AsType[*holdpost.DisconnectError](off.Err()); !ok || e.Reason != holdpost.ReasonTransportClose && e.Reason != holdpost.ReasonTransportError || w.dialed() != dials {
			t.Errorf("without reconnection: %v, %d attempts", off.Err(), w.dialed()-dials)
		}
	})
}

// A context bounds Connect, and says what the attempts failed with.
func TestConnectContext(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		w.cut(true)
		cl := w.client(client.Config{})
		ctx, cancel := context.WithTimeout(background, 10*time.Second)
		defer cancel()
		err := cl.Of("/").Connect(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errDown) {
			t.Errorf("connect: %v", err)
		}
		dials := w.dialed()
		time.Sleep(time.Minute)
		if w.dialed() != dials {
			t.Error("it tries still")
		}
		w.up()
		w.connect(cl.Of("/"))
	})
}

// What a server does on purpose is final; what happens to it is not.
func TestReasons(t *testing.T) {
	run(t, holdpost.Config{PingInterval: 10 * time.Second, PingTimeout: 5 * time.Second}, func(t *testing.T, w *world, cc client.Config) {
		for _, whole := range []bool{false, true} {
			s := w.socket(cc)
			peer, _ := w.main.Socket(s.ID())
			peer.Disconnect(whole)
			synctest.Wait()
			e, ok := errors.AsType[*holdpost.DisconnectError](s.Err())
			if !ok || e.Reason != holdpost.ReasonServerDisconnect {
				t.Errorf("turned out: %v", s.Err())
			}
			dials := w.dialed()
			time.Sleep(time.Minute)
			if w.dialed() > dials+1 { // one poll may be on its way
				t.Errorf("it came back %d times", w.dialed()-dials)
			}
			if err := s.Connect(background); err != nil {
				t.Errorf("connect again: %v", err)
			}
		}
	})
}

// A connection on which no heartbeat comes any more is given up.
func TestPingTimeout(t *testing.T) {
	bubble(t, holdpost.Config{PingInterval: 10 * time.Second, PingTimeout: 5 * time.Second}, func(t *testing.T, w *world) {
		s := w.client(client.Config{}).Of("/")
		var why error
		s.OnDisconnect(func(err error) { why = err })
		w.connect(s)
		time.Sleep(5 * time.Minute)
		if !s.Connected() || why != nil {
			t.Fatalf("lost in good weather: %v", why)
		}
		w.freeze()
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if e, ok := errors.AsType[*holdpost.DisconnectError](why); !ok || e.Reason != holdpost.ReasonPingTimeout {
			t.Errorf("a silent connection: %v", why)
		}
	})
}

// The buffer is bounded in packets and in bytes, and what it does when it is full is as its policy says.
func TestBuffer(t *testing.T) {
	for name, c := range map[string]struct {
		config client.Config
		limit  int // emits that fit
		size   int
	}{
		"packets": {client.Config{BufferPackets: 10}, 10, 1},
		"bytes":   {client.Config{BufferBytes: 10_000}, 9, 1000},
	} {
		for _, policy := range []string{"refuse", "drop-oldest"} {
			t.Run(name+"/"+policy, func(t *testing.T) {
				bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
					var got record
					w.main.On("e", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
						got.add("%s", args.Raw(0))
						return nil, nil
					})
					config := c.config
					config.WhenFull = policy
					s := w.socket(config)
					w.cut(true)
					synctest.Wait()
					first := make(chan error, 1)
					go func() { _, err := s.EmitWithAck(background, "e", 0, strings.Repeat("x", c.size)); first <- err }()
					synctest.Wait()
					for i := 1; i <= c.limit; i++ {
						err := s.Emit(background, "e", i, strings.Repeat("x", c.size))
						if full := policy == "refuse" && i == c.limit; errors.Is(err, client.ErrFull) != full || !full && err != nil {
							t.Errorf("emit %d of %d: %v", i, c.limit, err)
						}
					}
					synctest.Wait()
					w.up()
					begin, end := 0, c.limit
					if policy == "drop-oldest" {
						begin, end = 1, c.limit+1
						if err := <-first; !errors.Is(err, client.ErrFull) {
							t.Errorf("who waits for the event that was dropped gets %v", err)
						}
					}
					time.Sleep(10 * time.Second)
					var want []string
					for i := begin; i < end; i++ {
						want = append(want, fmt.Sprint(i))
					}
					got.want(t, "at the server", want...)
				})
			})
		}
	}
}

// An ack's wait ends with its context, and then the event is not sent any more; with the connection, if it was sent.
func TestAckAndDisconnect(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
		var got record
		w.main.On("slow", func(ctx context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
			got.add("%s", args.Raw(0))
			<-ctx.Done()
			return nil, nil
		})
		s := w.socket(cc)
		lost := make(chan error, 1)
		go func() { _, err := s.EmitWithAck(background, "slow", 1); lost <- err }()
		time.Sleep(time.Second)
		w.cut(true)
		if _, ok := errors.AsType[*holdpost.DisconnectError](<-lost); !ok {
			t.Error("the ack of a lost connection")
		}
		ctx, cancel := context.WithTimeoutCause(background, time.Second, errDown)
		defer cancel()
		if _, err := s.EmitWithAck(ctx, "slow", 2); !errors.Is(err, errDown) {
			t.Errorf("with a context: %v", err)
		}
		w.up()
		time.Sleep(20 * time.Second)
		got.want(t, "at the server", "1")
		if s.Volatile().Emit(background, "slow", 3); !s.Connected() {
			t.Error("not back")
		}
		synctest.Wait()
		w.cut(true)
		time.Sleep(time.Minute)
		if err := s.Volatile().Emit(background, "slow", 4); err != nil {
			t.Errorf("volatile while away: %v", err)
		}
		w.up()
		time.Sleep(20 * time.Second)
		got.want(t, "at the server", "1", "3")
	})
}

func TestMaxPendingAcks(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		s := w.socket(client.Config{MaxPendingAcks: 2})
		w.main.On("never", func(ctx context.Context, _ *holdpost.Socket, _ holdpost.Args) ([]any, error) {
			<-ctx.Done()
			return nil, nil
		})
		ctx, cancel := context.WithCancel(background)
		results := make(chan error, 2)
		for range 2 {
			go func() { _, err := s.EmitWithAck(ctx, "never"); results <- err }()
		}
		synctest.Wait()
		if _, err := s.EmitWithAck(ctx, "never"); !errors.Is(err, client.ErrFull) {
			t.Errorf("the third: %v", err)
		}
		cancel()
		<-results
		<-results
	})
}

// Retrying reaches the server at least once and in order, however often the connection is cut.
func TestRetrying(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
		var got []string // without repetitions
		w.main.On("order", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
			var n int
			var id string
			if err := args.Decode(&n, &id); err != nil {
				return nil, err
			}
			if !slices.Contains(got, id) {
				got = append(got, id)
				if len(got)%3 == 0 { // the answer is lost
					w.cut(false)
				}
			}
			return []any{n * 2}, nil
		})
		s := w.socket(cc)
		var want []string
		results := make(chan error, 20)
		for i := range 20 {
			id := fmt.Sprint("id", i)
			want = append(want, id)
			go func() {
				n, err := holdpost.Call[int, int]("order").Do(background, s.Retrying(id), i)
				if err == nil && n != 2*i {
					err = fmt.Errorf("answer to %d is %d", i, n)
				}
				results <- err
			}()
			synctest.Wait() // its turn is taken
		}
		for range 20 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the server saw %q", got)
		}
	})
}

// What is known to be too large for the server is refused here, and the connection stays.
func TestTooLarge(t *testing.T) {
	run(t, holdpost.Config{MaxPayload: 1000}, func(t *testing.T, w *world, cc client.Config) {
		w.main.On("echo", reply)
		s := w.socket(cc)
		id := s.ID()
		fits := strings.Repeat("x", 1000-len(`4212["echo",""]`))
		if _, err := s.EmitWithAck(background, "echo", fits[1:]); err != nil {
			t.Errorf("at the limit: %v", err)
		}
		err := s.Emit(background, "echo", fits+"xxx")
		if e, ok := errors.AsType[*holdpost.Error](err); !ok || e.Code != "too_large" {
			t.Errorf("above: %v", err)
		}
		for range 10 { // more than fit into one request
			s.Emit(background, "echo", strings.Repeat("x", 500))
		}
		if _, err := s.EmitWithAck(background, "echo"); err != nil || s.ID() != id {
			t.Errorf("then: %v", err)
		}
	})
}
