package engineio

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// A tapLink is a connection whose peer is the test: what is written is kept.
type tapLink struct {
	out    bytes.Buffer
	closed bool
}

func (l *tapLink) start(receiver, []byte) {}
func (l *tapLink) try(b []byte) (int, error) {
	if l.closed {
		return 0, io.ErrClosedPipe
	}
	return l.out.Write(b)
}
func (l *tapLink) write(b []byte, _ time.Duration) error {
	_, err := l.try(b)
	return err
}
func (l *tapLink) calm()       {}
func (l *tapLink) closeWrite() { l.closed = true }
func (l *tapLink) close()      { l.closed = true }

// replay feeds a stream to a fresh session in pieces, echoes, and returns what the application has seen. What the
// peer gets must be frames.
func replay(t *testing.T, in []byte, cut, revision int, deflate bool) (got, reasons string) {
	h := &host{t: t, serve: echo}
	var r *recorder
	srv := New(Config{MaxPayload: 1000, PingInterval: -1, AllowEIO3: true, PerMessageDeflate: true, CompressFrom: 20, Open: func(s *Session) Handler {
		r = &recorder{host: h, session: s}
		return r
	}})
	defer srv.Close()
	s := srv.newSession(httptest.NewRequest("GET", fmt.Sprintf("/socket.io/?EIO=%d&transport=websocket", revision), nil))
	l := new(tapLink)
	c := &socket{session: s, link: l, frames: frame.Reader{Limits: srv.limits}}
	if deflate {
		c.frames.Limits = srv.deflated
	}
	s.ws = c
	srv.begin(s)
	for len(in) > 0 {
		n := min(len(in), max(1, cut))
		c.received(bytes.Clone(in[:n]))
		in = in[n:]
	}
	c.lost(io.EOF)
	got = strings.Join(r.messages(), "|")
	reader := frame.Reader{Limits: &frame.Limits{MaxMessage: 1 << 20, Client: true, Compressed: deflate}}
	defer reader.Release()
	f := &peertest.Frames{In: make(chan string, 1<<16)}
	if err := reader.Feed(l.out.Bytes(), f); err != nil || reader.Pending() {
		t.Errorf("the server's frames: %v, incomplete %v", err, reader.Pending())
	}
	return got, strings.Join(r.reasons(), "|")
}

// FuzzSocket: whatever a peer sends, its session ends once, and how the stream was cut makes no difference.
func FuzzSocket(f *testing.F) {
	compressed := frame.AppendCompressed(nil, frame.Text, []byte("4"+strings.Repeat("abc", 20)))
	compressed = append(append([]byte{compressed[0], compressed[1] | 0x80}, 0, 0, 0, 0), compressed[2:]...) // masked with zeros
	for _, seed := range []struct {
		in  string
		cut int
	}{
		{masked(frame.Text, true, "4hello") + masked(frame.Binary, true, "x") + masked(frame.Close, true, ""), 3},
		{masked(frame.Text, false, "4hel") + masked(frame.Ping, true, "p") + masked(frame.Continuation, true, "lo"), 1},
		{masked(frame.Text, true, "2") + masked(frame.Text, true, "4x"), 100},
		{masked(frame.Text, true, "3") + masked(frame.Text, true, "bAQI=") + masked(frame.Text, true, "1"), 7},
		{masked(frame.Binary, true, "\x04ab") + masked(frame.Text, true, "b4AQI=") + masked(frame.Text, true, "2"), 4},
		{"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00", 2},
		{string(compressed) + masked(frame.Text, true, "4x"), 5},
	} {
		for _, v3 := range []bool{false, true} {
			for _, deflate := range []bool{false, true} {
				f.Add([]byte(seed.in), seed.cut, v3, deflate)
			}
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, cut int, v3, deflate bool) {
		revision := 4
		if v3 {
			revision = 3
		}
		got, reasons := replay(t, in, len(in), revision, deflate)
		if reasons == "" || strings.Contains(reasons, "|") {
			t.Errorf("closed with %q", reasons)
		}
		got2, reasons2 := replay(t, in, cut, revision, deflate)
		if got != got2 || reasons != reasons2 {
			t.Errorf("in pieces of %d: got %q, %q; whole: %q, %q", cut, got2, reasons2, got, reasons)
		}
	})
}
