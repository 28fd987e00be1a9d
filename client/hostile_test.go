package client_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

const openPacket = `0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`

// A bad server says hello over a WebSocket, lets the main namespace in, and then writes what the test wants.
type badServer struct {
	conns      atomic.Int64
	deaf       bool   // reads nothing more
	extensions string // what it says of those of the WebSocket
	write      func(w io.Writer)
}

func text(payload string) string {
	return string(frame.AppendHeader(nil, frame.Text, len(payload))) + payload
}

func (b *badServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.conns.Add(1)
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
		accept(r.Header.Get("Sec-WebSocket-Key")))
	if b.extensions != "" {
		fmt.Fprintf(conn, "Sec-WebSocket-Extensions: %s\r\n", b.extensions)
	}
	io.WriteString(conn, "\r\n")
	io.WriteString(conn, text(openPacket))
	one := make([]byte, 1)
	if _, err := rw.Read(one); err != nil { // of the CONNECT
		return
	}
	io.WriteString(conn, text(`40{"sid":"x"}`))
	if !b.deaf {
		go io.Copy(io.Discard, rw) // ends with the connection
	}
	b.write(conn)
}

func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// What no server sends ends the connection with a reason, and the client comes back, ever more seldom.
func TestHostileServer(t *testing.T) {
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for name, c := range map[string]struct {
		write  string
		reason holdpost.Reason
	}{
		"no packet":            {text("x"), holdpost.ReasonParseError},
		"empty packet":         {text(""), holdpost.ReasonParseError},
		"reopened":             {text(openPacket), holdpost.ReasonParseError},
		"upgrade":              {text("5"), holdpost.ReasonParseError},
		"broken event":         {text(`42["x"`), holdpost.ReasonParseError},
		"reserved event":       {text(`42["disconnect"]`), holdpost.ReasonParseError},
		"long name":            {text(`42["` + strings.Repeat("x", 256) + `"]`), holdpost.ReasonParseError},
		"deep":                 {text(`42["x",` + deep + `]`), holdpost.ReasonParseError},
		"many values":          {text(`42["x",[` + strings.Repeat("1,", 100_000) + `1]]`), holdpost.ReasonParseError},
		"many attachments":     {text(`4511-["x"]`), holdpost.ReasonParseError},
		"no attachment":        {text(`450-["x"]`), holdpost.ReasonParseError},
		"interrupted":          {text(`451-["x",{"_placeholder":true,"num":0}]`) + text(`42["y"]`), holdpost.ReasonParseError},
		"unannounced":          {string(frame.AppendHeader(nil, frame.Binary, 1)) + "x", holdpost.ReasonParseError},
		"wrong placeholder":    {text(`451-["x",{"_placeholder":true,"num":7}]`), holdpost.ReasonParseError},
		"a GB in one frame":    {string(frame.AppendHeader(nil, frame.Text, 1<<30)), holdpost.ReasonTransportError},
		"masked":               {string(frame.AppendMasked(nil, frame.Text, true, [4]byte{1, 2, 3, 4}, []byte("2"))), holdpost.ReasonTransportError},
		"reserved bits":        {"\xf1\x01x", holdpost.ReasonTransportError},
		"invalid UTF-8":        {text("42[\"\xff\"]"), holdpost.ReasonTransportError},
		"closed":               {string(frame.AppendClose(nil, 1000, "")), holdpost.ReasonTransportClose},
		"close packet":         {text("1"), holdpost.ReasonTransportClose},
		"hung up":              {"", holdpost.ReasonTransportClose},
		"half a frame":         {text("42")[:2], holdpost.ReasonTransportClose},
		"unknown acks":         {strings.Repeat(text(`431["x"]`), 1000), holdpost.ReasonTransportClose},
		"unknown namespaces":   {strings.Repeat(text(`40/nope,{"sid":"y"}`)+text(`42/nope,["x"]`)+text(`41/nope,`), 100), holdpost.ReasonTransportClose},
		"let in again":         {strings.Repeat(text(`40{"sid":"y"}`), 100), holdpost.ReasonTransportClose},
		"refused again":        {text(`44{"message":"no"}`), holdpost.ReasonTransportClose},
		"more than is handled": {strings.Repeat(text(`42["slow"]`), 20), holdpost.ReasonOverrun},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad := &badServer{write: func(w io.Writer) { io.WriteString(w, c.write); time.Sleep(time.Millisecond) }}
				host := peertest.New(t, bad)
				config := client.Config{Dial: (&world{Host: host}).dial, Transports: []string{"websocket"}, MaxInboundEvents: 10, ReconnectJitter: -1}
				cl := client.New("http://test", &config)
				defer cl.Close()
				s := cl.Of("/")
				s.On("slow", func(ctx context.Context, _ holdpost.Args) ([]any, error) { time.Sleep(time.Minute); return nil, nil })
				lost := make(chan error, 100)
				s.OnDisconnect(func(why error) { lost <- why })
				if err := s.Connect(background); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Minute)
				cl.Close()
				if e, ok := errors.AsType[*holdpost.DisconnectError](<-lost); !ok || e.Reason != c.reason {
					t.Errorf("lost with %v, want %s", e, c.reason)
				}
				if n := bad.conns.Load(); n < 5 || n > 64 { // 0, 1, 3, 7, 12, 17 … 300 s
					t.Errorf("%d connections in five minutes", n)
				}
			})
		})
	}
}

// An event whose attachments do not come ends the connection after a while; one whose attachments come in time does not.
func TestAttachmentTimeout(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint(late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wait := 9 * time.Second
				if late {
					wait = 11 * time.Second
				}
				bad := &badServer{write: func(w io.Writer) {
					for range 3 {
						io.WriteString(w, text(`451-["file",{"_placeholder":true,"num":0}]`))
						time.Sleep(wait)
						w.Write(append(frame.AppendHeader(nil, frame.Binary, 1), 'x'))
					}
					time.Sleep(time.Minute)
				}}
				host := peertest.New(t, bad)
				cl := client.New("http://test", &client.Config{Dial: (&world{Host: host}).dial, Transports: []string{"websocket"}, ReconnectAttempts: -1})
				defer time.Sleep(2 * time.Minute) // until the server is through
				defer cl.Close()
				s := cl.Of("/")
				var got record
				s.On("file", func(_ context.Context, args holdpost.Args) ([]any, error) { got.add("%d", args.Len()); return nil, nil })
				if err := s.Connect(background); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				time.Sleep(50 * time.Second)
				if !late {
					got.want(t, "in time", "1", "1", "1")
					return
				}
				got.want(t, "too late")
				e, ok := errors.AsType[*holdpost.DisconnectError](s.Err())
				if !ok || e.Reason != holdpost.ReasonParseError || !strings.Contains(e.Error(), "AttachmentTimeout") {
					t.Errorf("after %v: %v", time.Since(start), s.Err())
				}
			})
		})
	}
}

// What a server says of compression is an answer to what was offered, or the connection is refused; and what a message inflates
// to is bounded.
func TestHostileCompression(t *testing.T) {
	const own = "permessage-deflate; server_no_context_takeover"
	for extensions, c := range map[string]struct {
		offered, opens bool
	}{
		"":                                      {true, true},
		own:                                     {true, true},
		own + "; client_no_context_takeover":    {true, true},
		own + "; server_max_window_bits=15":     {true, true},
		"permessage-deflate":                    {true, false}, // with the context of earlier messages
		own + "; client_max_window_bits=8":      {true, false}, // which was not offered
		own + ", " + own:                        {true, false},
		own + "; constructor":                   {true, false},
		"x-webkit-deflate-frame":                {true, false},
		own + " ":                               {false, false},
		"permessage-deflate; server_max_window": {true, false},
	} {
		t.Run(extensions, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad := &badServer{extensions: extensions, write: func(w io.Writer) {
					w.Write(frame.AppendCompressed(nil, frame.Text, []byte(`42["x","`+strings.Repeat("x", 5000)+`"]`)))
					time.Sleep(time.Second)
					w.Write(frame.AppendCompressed(nil, frame.Text, []byte(`42["x","`+strings.Repeat("x", 20_000)+`"]`)))
					time.Sleep(time.Second)
				}}
				host := peertest.New(t, bad)
				cl := client.New("http://test", &client.Config{
					Dial: (&world{Host: host}).dial, Transports: []string{"websocket"}, ReconnectAttempts: -1, PerMessageDeflate: c.offered, MaxPayload: 10_000,
				})
				defer cl.Close()
				s := cl.Of("/")
				var got record
				s.On("x", func(_ context.Context, args holdpost.Args) ([]any, error) {
					got.add("%d", len(args.Raw(0)))
					return nil, nil
				})
				err := s.Connect(background)
				if !c.opens {
					dialError(t, extensions, err, "malformed")
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				if e, ok := errors.AsType[*holdpost.DisconnectError](s.Err()); !ok || e.Reason != holdpost.ReasonTransportError {
					t.Errorf("after too large a message: %v", s.Err())
				}
				if extensions != "" {
					got.want(t, "the one that is not too large", "5002")
				}
			})
		})
	}
}

// A flood of heartbeats, which are to be answered, costs no memory while the server reads no answers.
func TestHeartbeatFlood(t *testing.T) {
	measured := make(chan struct{})
	bad := &badServer{deaf: true, write: func(w io.Writer) {
		many := strings.Repeat(text("2"), 1000) + strings.Repeat("\x89\x01x", 1000)
		for range 500 {
			io.WriteString(w, many)
		}
		io.WriteString(w, text(`42["end"]`))
		<-measured
	}}
	web := httptest.NewServer(bad)
	defer web.Close()
	defer close(measured)
	cl := client.New(web.URL, &client.Config{Transports: []string{"websocket"}, ReconnectAttempts: -1})
	defer cl.Close()
	s := cl.Of("/")
	end := make(chan struct{})
	s.On("end", func(context.Context, holdpost.Args) ([]any, error) { close(end); return nil, nil })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.Connect(background); err != nil {
		t.Fatal(err)
	}
	<-end
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("a million heartbeats leave %d bytes", grown)
	}
}

// Limits hold exactly.
func TestInboundLimits(t *testing.T) {
	for _, c := range []struct {
		name     string
		config   client.Config
		in, over []any
	}{
		{"payload", client.Config{MaxPayload: 1000}, []any{strings.Repeat("x", 1000-len(`421["ask",""]`)-1)}, []any{strings.Repeat("x", 1000)}},
		{"attachments", client.Config{MaxAttachments: 2}, []any{[]byte("1"), []byte("2")}, []any{[]byte("1"), []byte("2"), []byte("3")}},
		{"depth", client.Config{MaxDepth: 3}, []any{[]any{[]any{}}}, []any{[]any{[]any{[]any{}}}}},
		{"values", client.Config{MaxValues: 10}, []any{1, 2, 3, 4, 5, 6, 7, 8}, []any{1, 2, 3, 4, 5, 6, 7, 8, 9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
				config := c.config
				config.Transports, config.ReconnectAttempts = cc.Transports, -1
				s := w.client(config).Of("/")
				s.On("ask", func(_ context.Context, args holdpost.Args) ([]any, error) { return []any{args.Len()}, nil })
				w.connect(s)
				synctest.Wait()
				peer, ok := w.main.Socket(s.ID())
				if !ok {
					t.Fatal("no socket")
				}
				ctx, cancel := context.WithTimeout(background, time.Minute)
				defer cancel()
				if _, err := peer.EmitWithAck(ctx, "ask", c.in...); err != nil {
					t.Errorf("at the limit: %v", err)
				}
				_, err := peer.EmitWithAck(ctx, "ask", c.over...)
				synctest.Wait()
				if err == nil || s.Err() == nil {
					if c.name != "payload" || cc.Transports[len(cc.Transports)-1] == "websocket" { // of a poll, twice as much
						t.Errorf("above it: %v, %v", err, s.Err())
					}
				}
			})
		})
	}
}

// OnAny takes what nobody else does, answers included.
func TestOnAny(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
		s := w.client(cc).Of("/")
		var got record
		s.On("known", func(context.Context, holdpost.Args) ([]any, error) { return []any{"known"}, nil })
		s.OnAny(func(_ context.Context, event string, args holdpost.Args) ([]any, error) {
			got.add("%s %s", event, args.Raw(0))
			return []any{"any"}, nil
		})
		w.connect(s)
		synctest.Wait()
		peer, _ := w.main.Socket(s.ID())
		for _, event := range []string{"known", "other"} {
			a, err := peer.EmitWithAck(background, event, 1)
			var by string
			if err := errors.Join(err, a.Decode(&by)); err != nil || (by == "any") != (event == "other") {
				t.Errorf("%s is answered by %q, %v", event, by, err)
			}
		}
		got.want(t, "OnAny", "other 1")
	})
}

// A handler that panics costs its socket, is logged, and answered with no detail.
func TestPanic(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, cc client.Config) {
		s := w.client(cc).Of("/")
		s.On("boom", func(context.Context, holdpost.Args) ([]any, error) { panic("secret") })
		w.connect(s)
		synctest.Wait()
		peer, _ := w.main.Socket(s.ID())
		_, err := holdpost.Call[int, int]("boom").Do(background, peer, 1)
		if e, ok := errors.AsType[*holdpost.Error](err); !ok || e.Code != holdpost.CodeInternal || strings.Contains(e.Message, "secret") {
			t.Errorf("the server is told %v", err)
		}
		synctest.Wait()
		if e, ok := errors.AsType[*holdpost.DisconnectError](s.Err()); !ok || e.Reason != holdpost.ReasonPanic || !strings.Contains(w.log.String(), "secret") {
			t.Errorf("ended with %v; log: %s", s.Err(), w.log)
		}
	})
}
