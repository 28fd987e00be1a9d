package engineio

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// Section 13 of the Autobahn suite: what clients offer, and what is accepted (RFC 7692 §7.1).
func TestDeflateOffers(t *testing.T) {
	const yes = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	tests := []struct{ name, offer, want string }{
		{"13.1", "permessage-deflate", yes},
		{"13.1 with a window of the client's", "permessage-deflate; client_max_window_bits", yes},
		{"13.2", "permessage-deflate; server_no_context_takeover; client_max_window_bits", yes},
		{"13.3, a small window is declined", "permessage-deflate; server_max_window_bits=8", ""},
		{"13.4", "permessage-deflate; server_max_window_bits=15", yes + "; server_max_window_bits=15"},
		{"13.5", "permessage-deflate; server_no_context_takeover; server_max_window_bits=8", ""},
		{"13.6", "permessage-deflate; server_no_context_takeover; server_max_window_bits=15", yes + "; server_max_window_bits=15"},
		{"13.7", "permessage-deflate; server_no_context_takeover; server_max_window_bits=8, permessage-deflate; server_no_context_takeover, permessage-deflate", yes},
		{"quoted", `permessage-deflate; server_max_window_bits="15"; client_max_window_bits="9"`, yes + "; server_max_window_bits=15"},
		{"others first", "x-webkit-deflate-frame, foo; bar=1,permessage-deflate;client_no_context_takeover", yes},

		{"nothing", "", ""},
		{"another extension", "permessage-bzip2", ""},
		{"unknown parameter", "permessage-deflate; level=9", ""},
		{"repeated parameter", "permessage-deflate; client_max_window_bits; client_max_window_bits=10", ""},
		{"a value where there is none", "permessage-deflate; server_no_context_takeover=1", ""},
		{"no value where there is one", "permessage-deflate; server_max_window_bits", ""},
		{"window 7", "permessage-deflate; client_max_window_bits=7", ""},
		{"window 16", "permessage-deflate; client_max_window_bits=16", ""},
		{"window 016", "permessage-deflate; client_max_window_bits=015", ""},
		{"window +9", "permessage-deflate; client_max_window_bits=+9", ""},
		{"window without digits", `permessage-deflate; client_max_window_bits=""`, ""},
		{"names of the prototype", "permessage-deflate; __proto__; constructor=1", ""},
		{"an empty parameter", "permessage-deflate; ;", ""},
		{"a thousand offers", strings.Repeat("permessage-deflate; server_max_window_bits=8,", 1000), ""},
	}
	for _, tt := range tests {
		if got := acceptDeflate(http.Header{"Sec-Websocket-Extensions": {tt.offer}}); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	two := http.Header{"Sec-Websocket-Extensions": {"foo", "permessage-deflate"}}
	if got := acceptDeflate(two); got != yes {
		t.Errorf("in a header of its own: %q", got)
	}
}

// A compressing client.
type deflated struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func (h *host) connectDeflated(t *testing.T, offer string) (*deflated, http.Header) {
	t.Helper()
	conn, err := h.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, peertest.WebSocketRequest("EIO=4&transport=websocket", "Sec-WebSocket-Extensions", offer))
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	d := &deflated{t: t, conn: conn, r: r}
	d.next()
	return d, resp.Header
}

// next returns the first byte of the next frame, and its message.
func (d *deflated) next() (first byte, message string) {
	d.t.Helper()
	r := frame.Reader{Limits: &frame.Limits{MaxMessage: 1 << 20, Client: true, Compressed: true}}
	defer r.Release()
	in := make(chan string, 1)
	f := &peertest.Frames{In: in}
	for n := 0; ; n++ {
		b, err := d.r.ReadByte()
		if err != nil {
			d.t.Fatal(err)
		}
		if n == 0 {
			first = b
		}
		if err := r.Feed([]byte{b}, f); err != nil {
			d.t.Fatal(err)
		}
		select {
		case message = <-in:
			return first, message
		default:
		}
	}
}

func TestPerMessageDeflate(t *testing.T) {
	const compressed, plain = 0xc1, 0x81
	long := strings.Repeat("abc", 400)
	bubble(t, Config{PerMessageDeflate: true, MaxPayload: 5000, CompressFrom: 1000}, func(t *testing.T, h *host) {
		h.serve = echo
		d, header := h.connectDeflated(t, "permessage-deflate; client_max_window_bits")
		if got := header.Get("Sec-Websocket-Extensions"); got != deflateResponse {
			t.Fatalf("accepts with %q", got)
		}
		want := func(what string, first byte, message string) {
			t.Helper()
			if f, m := d.next(); f != first || m != message {
				t.Errorf("%s: %02x %s, want %02x %s", what, f, peertest.Clip(m), first, peertest.Clip(message))
			}
		}
		s := h.last().session
		s.Send(true, NewText([]byte(long)))
		want("a long message", compressed, "4"+long)
		s.Send(true, NewText([]byte("short")))
		want("a short message", plain, "4short")
		s.Send(true, NewText([]byte(long[:998])), NewText([]byte(long[:999]))) // the packet's digit makes it one more
		want("just too short", plain, "4"+long[:998])
		want("just long enough", compressed, "4"+long[:999])
		huge := fmt.Sprint(rand.New(rand.NewPCG(1, 2)).Perm(20_000)) // strings that repeat look like a bomb to the reader
		s.Send(true, NewText([]byte(huge)))
		want("a message whose header would be the longest", compressed, "4"+huge)
		s.Send(true, NewText([]byte(long)).Uncompressed())
		want("not to be compressed", plain, "4"+long)
		for _, on := range []bool{false, true} {
			h.srv.SetCompression(on)
			s.Send(true, NewText([]byte(long)))
			want("when nothing is, and is again", map[bool]byte{false: plain, true: compressed}[on], "4"+long)
		}
		s.Send(true, NewText([]byte(long)), NewText([]byte(long)), NewText([]byte("end")))
		want("in one write", compressed, "4"+long)
		want("in one write", compressed, "4"+long)
		want("in one write", plain, "4end")

		in := frame.AppendCompressed(nil, frame.Text, []byte("4"+long))
		go d.conn.Write(append(append([]byte{in[0], in[1] | 0x80}, 0, 0, 0, 0), in[2:]...)) // masked with zeros
		want("a compressed message comes back", compressed, "4"+long)
		bomb := frame.AppendCompressed(nil, frame.Text, make([]byte, 5001))
		go d.conn.Write(append(append([]byte{bomb[0], bomb[1] | 0x80}, 0, 0, 0, 0), bomb[2:]...))
		want("too much in little", 0x88, "close 1009")
		synctest.Wait()
		if got := h.last().reasons(); len(got) != 1 || got[0] != string(ReasonTransportError) {
			t.Errorf("closed with %q", got)
		}
	})
}

// One message to many is compressed once, and those who take no compression get it as it is.
func TestDeflatedOnce(t *testing.T) {
	bubble(t, Config{PerMessageDeflate: true}, func(t *testing.T, h *host) {
		var all []*deflated
		for _, offer := range []string{"permessage-deflate", "permessage-deflate", "none"} {
			d, _ := h.connectDeflated(t, offer)
			all = append(all, d)
		}
		m := NewText(bytes.Repeat([]byte("x"), 2000))
		for s := range h.srv.Sessions() {
			s.Send(true, m)
		}
		for i, want := range []byte{0xc1, 0xc1, 0x81} {
			if first, text := all[i].next(); first != want || len(text) != 2001 {
				t.Errorf("connection %d: %02x, %d bytes", i, first, len(text))
			}
		}
		if a, b := m.compressed(), m.compressed(); &a[0] != &b[0] {
			t.Error("compressed twice")
		}
		if m := NewBinary([]byte{1}); &m.compressed()[0] != &m.frame()[0] {
			t.Error("compressed although that is longer")
		}
	})
}

func TestDeflateIsOff(t *testing.T) {
	for name, c := range map[string]Config{"by default": {}, "by its threshold": {PerMessageDeflate: true, CompressFrom: -1}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c, func(t *testing.T, h *host) {
				d, header := h.connectDeflated(t, "permessage-deflate")
				if got := header.Get("Sec-Websocket-Extensions"); got != "" {
					t.Errorf("accepts with %q", got)
				}
				h.last().session.Send(true, NewText(bytes.Repeat([]byte("x"), 5000)))
				if first, _ := d.next(); first != 0x81 {
					t.Errorf("sends %02x", first)
				}
			})
		})
	}
}

func TestPollCompression(t *testing.T) {
	long := strings.Repeat("x", 1023) // the packet's digit makes it 1024
	tests := []struct {
		name, accept string
		messages     []*Message
		want         string
	}{
		{"gzip", "gzip", []*Message{NewText([]byte(long))}, "gzip"},
		{"deflate", "deflate", []*Message{NewText([]byte(long))}, "deflate"},
		{"both", "deflate, gzip;q=1.0, br", []*Message{NewText([]byte(long))}, "gzip"},
		{"deflate preferred", "gzip;q=0.5, deflate;q=0.9", []*Message{NewText([]byte(long))}, "deflate"},
		{"gzip refused", "gzip;q=0, deflate", []*Message{NewText([]byte(long))}, "deflate"},
		{"in other case", "GZip", []*Message{NewText([]byte(long))}, "gzip"},
		{"none", "", []*Message{NewText([]byte(long))}, ""},
		{"none of ours", "br, zstd", []*Message{NewText([]byte(long))}, ""},
		{"all refused", "gzip;q=0, deflate;q=0.000, *;q=0", []*Message{NewText([]byte(long))}, ""},
		{"malformed", "gzip;q=x, ;;, =,deflate;q=2", []*Message{NewText([]byte(long))}, ""},
		{"one byte too few", "gzip", []*Message{NewText([]byte(long[1:]))}, ""},
		{"several together", "gzip", []*Message{NewText([]byte(long[:600])), NewText([]byte(long[:600]))}, "gzip"},
		{"base64 counts", "gzip", []*Message{NewBinary([]byte(long[:768]))}, "gzip"},
		{"not to be compressed", "gzip", []*Message{NewText([]byte(long)).Uncompressed(), NewText([]byte(long)).Uncompressed()}, ""},
		{"one of them is", "gzip", []*Message{NewText([]byte(long)).Uncompressed(), NewText([]byte(long))}, "gzip"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, Config{}, func(t *testing.T, h *host) {
				query, r := h.openPolling()
				r.session.Send(true, tt.messages...)
				var want []byte
				for i, m := range tt.messages {
					if i > 0 {
						want = append(want, 0x1e)
					}
					want = m.appendPacket(want)
				}
				request, _ := http.NewRequest("GET", "http://test/socket.io/?"+query, nil)
				request.Header.Set("Accept-Encoding", tt.accept)
				resp, err := h.Web.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if got := resp.Header.Get("Content-Encoding"); err != nil || got != tt.want {
					t.Errorf("encoded as %q, want %q: %v", got, tt.want, err)
				}
				if resp.ContentLength != int64(len(body)) {
					t.Errorf("length %d of %d bytes", resp.ContentLength, len(body))
				}
				var out io.Reader = bytes.NewReader(body)
				switch tt.want {
				case "gzip":
					out, err = gzip.NewReader(out)
				case "deflate":
					out, err = zlib.NewReader(out)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(out); err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %s, want %s: %v", peertest.Clip(string(got)), peertest.Clip(string(want)), err)
				}
			})
		})
	}
	t.Run("for a while", func(t *testing.T) {
		bubble(t, Config{}, func(t *testing.T, h *host) {
			query, r := h.openPolling()
			for _, on := range []bool{false, true} {
				h.srv.SetCompression(on)
				r.session.Send(true, NewText(make([]byte, 10_000)))
				if status, body := h.Request("GET", query, "", "Accept-Encoding", "gzip"); status != 200 || (len(body) == 10_001) == on {
					t.Errorf("compression is %v: %d, %d bytes", on, status, len(body))
				}
			}
		})
	})
	t.Run("off", func(t *testing.T) {
		bubble(t, Config{CompressFrom: -1}, func(t *testing.T, h *host) {
			query, r := h.openPolling()
			r.session.Send(true, NewText(make([]byte, 10_000)))
			if status, body := h.Request("GET", query, "", "Accept-Encoding", "gzip"); status != 200 || len(body) != 10_001 {
				t.Errorf("%d, %d bytes", status, len(body))
			}
		})
	})
}

// What a middleware in front has set goes into the response to a WebSocket's handshake too, but for what is not its own.
func TestHeadersOfTheHandshake(t *testing.T) {
	h := &host{t: t}
	h.srv = h.server(Config{})
	h.Host = peertest.New(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2\r\nInjected: 1")
		w.Header().Set("Content-Length", "10")
		w.Header().Set("Sec-WebSocket-Accept", "nonsense")
		h.srv.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { h.srv.Close() })
	conn, err := h.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, peertest.WebSocketRequest("EIO=4&transport=websocket", "Sec-WebSocket-Protocol", "a b, chat, other"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	got := fmt.Sprint(resp.Header)
	want := fmt.Sprint(http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": {"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		"Sec-Websocket-Protocol": {"chat"}, "X-Frame-Options": {"DENY"}, "Set-Cookie": {"a=1", "b=2  Injected: 1"},
	})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCookie(t *testing.T) {
	bubble(t, Config{Cookie: &http.Cookie{Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}}, func(t *testing.T, h *host) {
		get := func(query string) *http.Response {
			resp, err := h.Web.Get("http://test/socket.io/?EIO=4&transport=polling" + query)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp
		}
		first := get("")
		r := h.last()
		want := "io=" + r.session.ID() + "; Path=/; HttpOnly; SameSite=Lax"
		if got := first.Header.Get("Set-Cookie"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		r.session.Send(true, NewText([]byte("x")))
		if got := get("&sid=" + r.session.ID()).Header["Set-Cookie"]; len(got) > 0 {
			t.Errorf("later polls get %q", got)
		}
		h.connect(WebSocket)
	})
	for _, bad := range []http.Cookie{{Name: "a b"}, {Name: "io", Path: "/;x"}, {Name: "io", Domain: "a\r\nb"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("takes %+v (CVE-2024-47764)", bad)
				}
			}()
			New(Config{Cookie: &bad, Open: func(*Session) Handler { return nil }})
		}()
	}
}
