package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/internal/peertest"
)

func openOutbox(t *testing.T, path string, maxBytes int64) *client.Outbox {
	t.Helper()
	o, err := client.OpenOutbox(path, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func hold(t *testing.T, o *client.Outbox, topic string, n int) {
	t.Helper()
	if err := o.Post(client.Message{Topic: topic, Event: "e", Args: []any{n, []byte{byte(n)}}}); err != nil {
		t.Fatal(err)
	}
}

// What is posted while nobody is there reaches the server, in order and once, however often the connection breaks meanwhile.
func TestOutbox(t *testing.T) {
	p := newPost(t)
	path := filepath.Join(t.TempDir(), "outbox")
	o := openOutbox(t, path, 0)
	for i := range 20 {
		hold(t, o, "orders", i)
	}
	if err := o.Close(); err != nil || o.Close() != nil {
		t.Error(err)
	}
	if err := o.Post(client.Message{Topic: "orders"}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("post to a closed outbox: %v", err)
	}
	o = openOutbox(t, path, 0)
	if _, err := client.OpenOutbox(path, 0); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("opened twice: %v", err)
	}
	p.cutAfter = 3000
	s := p.socket("")
	ctx, done := context.WithCancelCause(soon(t))
	defer done(nil)
	var refused record
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() {
			err := o.Send(ctx, s, func(m client.Message, err error) { refused.add("%s %v", m.Topic, err) })
			if !errors.Is(err, errDown) {
				t.Error(err)
			}
		})
	}
	hold(t, o, "", 7)
	for i := 20; i < 60; i++ {
		hold(t, o, "orders", i)
	}
	for o.Len() > 0 && ctx.Err() == nil {
		s.Publish(ctx, client.Message{Topic: "pace", Event: "e"}) // takes as long as the store does
	}
	done(errDown)
	work.Wait()
	page, err := p.store.History(soon(t), "orders", "first", 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Events) != 60 {
		t.Errorf("the topic holds %d events", len(page.Events))
	}
	for i, e := range page.Events {
		if want := fmt.Sprintf(`[%d,{"_placeholder":true,"num":0}]`, i); string(e.Args) != want || e.Attachments[0][0] != byte(i) {
			t.Errorf("event %d is %s with %v", i, e.Args, e.Attachments)
		}
	}
	if all := refused.all(); len(all) != 1 || !strings.Contains(all[0], "invalid_topic") {
		t.Errorf("refused: %q", all)
	}
}

// Without anybody to tell, a refusal ends Send, and the message stays.
func TestOutboxRefusal(t *testing.T) {
	p := newPost(t)
	o := openOutbox(t, filepath.Join(t.TempDir(), "outbox"), 0)
	hold(t, o, "", 1)
	err := o.Send(soon(t), p.socket(""), nil)
	if e, ok := errors.AsType[*holdpost.Error](err); !ok || e.Code != "invalid_topic" || o.Len() != 1 {
		t.Errorf("%v, %d held", err, o.Len())
	}
}

func TestOutboxLimit(t *testing.T) {
	o := openOutbox(t, filepath.Join(t.TempDir(), "outbox"), 1000)
	large := client.Message{Topic: "t", ID: "i", Event: "e", Args: []any{strings.Repeat("x", 400)}}
	for i, full := range []bool{false, false, true} {
		if err := o.Post(large); errors.Is(err, client.ErrFull) != full || !full && err != nil {
			t.Errorf("post %d: %v", i, err)
		}
	}
	if o.Len() != 2 {
		t.Errorf("%d held", o.Len())
	}
}

// The file does not grow with what is done with.
func TestOutboxShrinks(t *testing.T) {
	p := newPost(t)
	path := filepath.Join(t.TempDir(), "outbox")
	o := openOutbox(t, path, 0)
	ctx, done := context.WithCancelCause(soon(t))
	defer done(nil)
	sent := make(chan error, 1)
	s := p.socket("")
	go func() { sent <- o.Send(ctx, s, nil) }()
	for i := range 25 {
		err := o.Post(client.Message{Topic: "t", Event: "e", Args: []any{i, strings.Repeat("x", 100_000)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for o.Len() > 0 && ctx.Err() == nil {
		s.Publish(ctx, client.Message{Topic: "pace", Event: "e"}) // takes as long as the store does
	}
	done(errDown)
	<-sent
	info, err := os.Stat(path)
	if err != nil || info.Size() > 1<<20+200_000 {
		t.Errorf("after 2.5 MB the file has %d bytes, %v", info.Size(), err)
	}
	o.Close()
	openOutbox(t, path, 0)
}

// What the end of a program leaves torn is dropped; any other damage is told, with its place.
func TestOutboxDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := openOutbox(t, path, 0)
	var ends []int
	for i := range 3 {
		hold(t, o, "orders", i)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int(info.Size()))
	}
	o.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len("holdpost outbox 1\n"); cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		o := openOutbox(t, path, 0)
		want := 0
		for _, end := range ends {
			if cut >= end {
				want++
			}
		}
		if o.Len() != want {
			t.Errorf("cut at %d: %d held, want %d", cut, o.Len(), want)
		}
		hold(t, o, "orders", 9)
		o.Close()
		if o = openOutbox(t, path, 0); o.Len() != want+1 {
			t.Errorf("cut at %d, then added to: %d held", cut, o.Len())
		}
		o.Close()
	}
	for at := range whole {
		b := slices.Clone(whole)
		b[at] ^= 0x40
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := client.OpenOutbox(path, 0)
		if err == nil {
			if o.Len() != 2 || at < ends[1] {
				t.Errorf("byte %d is damaged, %d held and nothing said", at, o.Len())
			}
			o.Close()
		} else if at >= ends[1] {
			t.Errorf("the last record is damaged: %v", err)
		}
	}
}

// A program that is killed while it posts has everything that it was told to be held, and what it sent comes once.
func TestOutboxKilled(t *testing.T) {
	if path := os.Getenv("HOLDPOST_TEST_OUTBOX"); path != "" {
		o, err := client.OpenOutbox(path, 0)
		for i := 0; err == nil; i++ {
			if err = o.Post(client.Message{Topic: "orders", Event: "e", Args: []any{i}}); err == nil {
				fmt.Println(i)
			}
		}
		fmt.Println(err)
		os.Exit(1)
	}
	path := filepath.Join(t.TempDir(), "outbox")
	cmd := exec.Command(os.Args[0], "-test.run=^TestOutboxKilled$")
	cmd.Env = append(os.Environ(), "HOLDPOST_TEST_OUTBOX="+path)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	told := -1
	for told < 50 {
		if _, err := fmt.Fscanln(out, &told); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Process.Kill()
	for {
		if _, err := fmt.Fscanln(out, &told); err != nil {
			break
		}
	}
	cmd.Wait()
	o := openOutbox(t, path, 0)
	if o.Len() <= told {
		t.Errorf("%d held, %d promised", o.Len(), told+1)
	}
}

// deafListener makes connections on which nothing is heard of the server any more once deaf says so.
type deafListener struct {
	net.Listener
	deaf *atomic.Bool
}

func (l deafListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return mute{conn, l.deaf}, err
}

// A program that is killed after the server has stored what it sent, and before it has heard so, sends it again: it is stored once.
func TestOutboxKilledBetweenSendAndAnswer(t *testing.T) {
	const messages, killedAt = 20, 11
	if url := os.Getenv("HOLDPOST_TEST_SERVER"); url != "" {
		o, err := client.OpenOutbox(os.Getenv("HOLDPOST_TEST_OUTBOX"), 0)
		for i := 0; err == nil && i < messages; i++ {
			err = o.Post(client.Message{Topic: "orders", Event: "e", Args: []any{i}})
		}
		s := client.New(url, nil).Of("/")
		if err == nil {
			if err = s.Connect(background); err == nil {
				err = o.Send(background, s, nil)
			}
		}
		fmt.Println(err)
		os.Exit(1)
	}
	p := newPost(t)
	var deaf atomic.Bool
	var stored atomic.Int64
	kill := make(chan struct{})
	p.main.Wrap(func(ctx context.Context, s *holdpost.Socket, event string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
		reply, err := next(ctx, s, args)
		if event == "publish" && stored.Add(1) == killedAt {
			deaf.Store(true)
			close(kill)
		}
		return reply, err
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peertest.Serve(t, p.srv, deafListener{l, &deaf})
	path := filepath.Join(t.TempDir(), "outbox")
	cmd := exec.Command(os.Args[0], "-test.run=^TestOutboxKilledBetweenSendAndAnswer$")
	cmd.Env = append(os.Environ(), "HOLDPOST_TEST_OUTBOX="+path, "HOLDPOST_TEST_SERVER=http://"+l.Addr().String())
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-kill:
	case <-soon(t).Done():
		t.Error("it never comes so far")
	}
	cmd.Process.Kill()
	cmd.Wait()
	o := openOutbox(t, path, 0)
	if o.Len() != messages-killedAt+1 {
		t.Fatalf("%d held: %s", o.Len(), out.String())
	}
	ctx, done := context.WithCancelCause(soon(t))
	defer done(nil)
	sent := make(chan error, 1)
	s := p.socket("")
	go func() { sent <- o.Send(ctx, s, nil) }()
	for o.Len() > 0 && ctx.Err() == nil {
		s.Publish(ctx, client.Message{Topic: "pace", Event: "e"}) // takes as long as the store does
	}
	done(errDown)
	<-sent
	page, err := p.store.History(soon(t), "orders", "first", 1000)
	if err != nil || len(page.Events) != messages {
		t.Fatalf("the topic holds %d events, %v", len(page.Events), err)
	}
	for i, e := range page.Events {
		if string(e.Args) != fmt.Sprintf("[%d]", i) {
			t.Errorf("event %d is %s", i, e.Args)
		}
	}
}
