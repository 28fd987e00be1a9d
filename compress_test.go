package holdpost_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/peertest"
)

// A countedConn counts what comes in.
type countedConn struct {
	net.Conn
	n *atomic.Int64
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// What is long goes out compressed to those who take it, unless it was prepared not to be.
func TestCompression(t *testing.T) {
	long := strings.Repeat("a", 20_000)
	p, err := holdpost.Prepare("e", long)
	if err != nil {
		t.Fatal(err)
	}
	bubble(t, holdpost.Config{PerMessageDeflate: true, Cookie: &http.Cookie{Name: "route"}}, func(t *testing.T, w *world) {
		var received atomic.Int64
		dial := w.Dial
		w.Dial = func() (net.Conn, error) {
			conn, err := dial()
			return &countedConn{conn, &received}, err
		}
		c := w.Connect(peertest.WebSocket, "Sec-WebSocket-Extensions", "permessage-deflate")
		c.Send("40")
		if reply := c.Next(); !strings.HasPrefix(reply, `40{"sid":`) {
			t.Fatal(reply)
		}
		bytesOf := func(emit func()) int64 {
			before := received.Load()
			emit()
			c.Want("the event", `42["e","`+long+`"]`)
			return received.Load() - before
		}
		if n := bytesOf(func() { w.main.Emit(t.Context(), "e", long) }); n > 1000 {
			t.Errorf("%d bytes on the wire", n)
		}
		if n := bytesOf(func() { w.main.Except().EmitPrepared(p.Uncompressed()) }); n < 20_000 {
			t.Errorf("uncompressed: %d bytes on the wire", n)
		}
		plain := w.main.Broadcast().Uncompressed()
		if n := bytesOf(func() { plain.Emit(t.Context(), "e", long) }); n < 20_000 {
			t.Errorf("a broadcast without compression: %d bytes on the wire", n)
		}
		before := received.Load()
		for range plain.EmitWithAck(deadContext(), "e", long) {
		}
		if c.Next(); received.Load()-before < 20_000 {
			t.Errorf("the same with an ack: %d bytes on the wire", received.Load()-before)
		}
		c.Close()

		for _, tt := range []struct {
			event    *holdpost.Prepared
			encoding string
		}{{p, "gzip"}, {p.Uncompressed(), ""}} {
			query := w.openPolling()
			w.Request("POST", query, "40")
			w.Request("GET", query, "")
			w.main.Except().EmitPrepared(tt.event)
			request, _ := http.NewRequest("GET", "http://test/socket.io/?"+query, nil)
			request.Header.Set("Accept-Encoding", "gzip, deflate, br")
			resp, err := w.Web.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if got := resp.Header.Get("Content-Encoding"); got != tt.encoding {
				t.Errorf("encoded as %q, want %q", got, tt.encoding)
			}
		}
		resp, err := w.Web.Get("http://test/socket.io/?EIO=4&transport=polling")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Set-Cookie"); !strings.HasPrefix(got, "route=") {
			t.Errorf("cookie %q", got)
		}
	})
}
