package engineio

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost/internal/peertest"
)

// openPolling opens a session that nobody polls for.
func (h *host) openPolling() (query string, r *recorder) {
	h.t.Helper()
	return h.openPollingWith("")
}

// openPollingWith opens one with more parameters, which are to begin with an ampersand.
func (h *host) openPollingWith(more string) (query string, r *recorder) {
	h.t.Helper()
	if status, body := h.Request("GET", "EIO=4&transport=polling"+more, ""); status != 200 {
		h.t.Fatalf("handshake: %d %s", status, body)
	}
	r = h.last()
	return "EIO=4&transport=polling&sid=" + r.session.ID(), r
}

type response struct {
	status int
	body   string
}

// background sends a request and returns where its answer will be.
func (h *host) background(method, query, body string) <-chan response {
	c := make(chan response, 1)
	go func() {
		status, text, _ := h.TryRequest(context.Background(), method, query, body)
		c <- response{status, text}
	}()
	synctest.Wait()
	return c
}

func (h *host) wantAnswer(what string, c <-chan response, status int, body string) {
	h.t.Helper()
	select {
	case got := <-c:
		if got.status != status || got.body != body {
			h.t.Errorf("%s: %d %s, want %d %q", what, got.status, peertest.Clip(got.body), status, body)
		}
	case <-time.After(peertest.Patience):
		h.t.Errorf("%s: no answer", what)
	}
}

func (h *host) wantEnd(what string, r *recorder, reason Reason) {
	h.t.Helper()
	synctest.Wait()
	if got := r.reasons(); len(got) != 1 || got[0] != string(reason) {
		h.t.Errorf("%s: closed with %q, want %q", what, got, reason)
	}
}

func bubble(t *testing.T, c Config, f func(t *testing.T, h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newHost(t, c)) })
}

func TestPollHeaders(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		resp, err := h.Web.Get("http://test/socket.io?EIO=4&transport=polling")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		for name, want := range map[string]string{
			"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "no-store", "Content-Length": fmt.Sprint(len(body)),
			"Access-Control-Allow-Origin": "", "Set-Cookie": "",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		resp, err = h.Web.Post("http://test/socket.io/?EIO=4&transport=polling&sid="+h.last().session.ID(), "text/plain;charset=UTF-8", strings.NewReader("4x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Header.Get("Content-Type") != "text/html" || resp.ContentLength != 2 {
			t.Errorf("POST: %v", resp.Header)
		}
	})
}

func TestPollCap(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		for i := range 40 {
			r.session.Send(true, NewText(fmt.Append(nil, i)))
		}
		for _, want := range []int{16, 16, 8} {
			_, body := h.Request("GET", query, "")
			if n := strings.Count(body, "\x1e") + 1; n != want {
				t.Errorf("%d packets in one response, want %d", n, want)
			}
		}
		synctest.Wait()
		if n := r.session.Queued(); n != 0 {
			t.Errorf("%d bytes still queued", n)
		}
		for i := range 16 {
			r.session.Send(true, NewText(fmt.Append(nil, i)))
		}
		r.session.Close(ReasonForcedClose)
		_, body := h.Request("GET", query, "")
		if n := strings.Count(body, "\x1e") + 1; n != 16 || strings.HasSuffix(body, "\x1e1") {
			t.Errorf("%d packets, the close may not be the seventeenth: %s", n, peertest.Clip(body))
		}
		if _, body := h.Request("GET", query, ""); body != "1" {
			t.Errorf("then %q, want the close", body)
		}
		h.wantEnd("closed", r, ReasonForcedClose)
	})
}

func TestOverlappingPolls(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		first := h.background("GET", query, "")
		second := h.background("GET", query, "")
		h.wantAnswer("the second poll", second, 400, body3)
		h.wantAnswer("the first poll", first, 200, "1")
		h.wantAnswer("a third one", h.background("GET", query, ""), 400, body1)
		h.wantEnd("two polls", r, ReasonTransportError)
	})
}

// slowPost sends a POST whose body does not come.
func (h *host) slowPost(query string, length string) (conn io.ReadWriteCloser, answer <-chan response) {
	h.t.Helper()
	c, err := h.Dial()
	if err != nil {
		h.t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /socket.io/?%s HTTP/1.1\r\nHost: test\r\n%s\r\n\r\n", query, length)
	got := make(chan response, 1)
	go func() {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			got <- response{0, err.Error()}
			return
		}
		body, _ := io.ReadAll(resp.Body)
		got <- response{resp.StatusCode, string(body)}
	}()
	synctest.Wait()
	return c, got
}

func TestOverlappingPosts(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		conn, first := h.slowPost(query, "Content-Length: 2")
		defer conn.Close()
		h.wantAnswer("the second POST", h.background("POST", query, "4b"), 400, body3)
		h.wantEnd("two POSTs", r, ReasonTransportError)
		io.WriteString(conn, "4a")
		h.wantAnswer("the first POST", first, 400, "")
		if got := r.messages(); len(got) > 0 {
			t.Errorf("got %q after the end", got)
		}
	})
}

func TestPollAndPostTogether(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		h.serve = echo
		query, _ := h.openPolling()
		poll := h.background("GET", query, "")
		h.wantAnswer("POST", h.background("POST", query, "4a\x1ebAQI=\x1e4c"), 200, "ok")
		h.wantAnswer("poll", poll, 200, "4a\x1ebAQI=\x1e4c")
	})
}

func TestAbortedRequests(t *testing.T) {
	t.Run("poll", func(t *testing.T) {
		bubble(t, Config{}, func(t *testing.T, h *host) {
			query, r := h.openPolling()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
			defer cancel()
			if _, _, err := h.TryRequest(ctx, "GET", query, ""); err == nil {
				t.Fatal("poll was answered")
			}
			h.wantEnd("aborted poll", r, ReasonTransportError)
			h.wantAnswer("the next", h.background("GET", query, ""), 400, body1)
		})
	})
	t.Run("POST", func(t *testing.T) {
		bubble(t, Config{}, func(t *testing.T, h *host) {
			query, r := h.openPolling()
			conn, _ := h.slowPost(query, "Content-Length: 100")
			conn.Close()
			h.wantEnd("aborted POST", r, ReasonTransportError)
		})
	})
	t.Run("slow body", func(t *testing.T) {
		bubble(t, Config{}, func(t *testing.T, h *host) {
			query, r := h.openPolling()
			conn, answer := h.slowPost(query, "Content-Length: 100")
			defer conn.Close()
			start := time.Now()
			for len(answer) == 0 { // a byte a second, for ever
				if _, err := io.WriteString(conn, "4"); err != nil {
					break
				}
				time.Sleep(time.Second)
			}
			if d := time.Since(start); d < 29*time.Second || d > 32*time.Second {
				t.Errorf("given up after %v", d)
			}
			h.wantEnd("slow body", r, ReasonTransportError)
		})
	})
}

func TestBodies(t *testing.T) {
	const limit = 1000
	tests := []struct {
		name, body string
		status     int
		got        string // messages, joined
		reason     Reason // none: the session lives
	}{
		{"at the limit", "4" + strings.Repeat("x", limit-1), 200, strings.Repeat("x", limit-1), ""},
		{"one over", "4" + strings.Repeat("x", limit), 413, "", ""},
		{"far over", "4" + strings.Repeat("x", 50*limit), 413, "", ""},
		{"unknown type", "abc", 400, "", ReasonParseError},
		{"unknown type 7", "7", 400, "", ReasonParseError},
		{"NUL", "\x00", 400, "", ReasonParseError},
		{"empty", "", 400, "", ReasonParseError},
		{"leading separator", "\x1e4a", 400, "", ReasonParseError},
		{"trailing separator", "4a\x1e", 400, "a", ReasonParseError},
		{"bad base64", "bAAA", 400, "", ReasonParseError},
		{"separator inside base64", "bAA\x1eA=", 400, "", ReasonParseError},
		{"invalid UTF-8", "4a\x1e4\xff", 400, "a", ReasonParseError},
		{"as many packets as allowed", strings.TrimSuffix(strings.Repeat("4\x1e", 100), "\x1e"), 200, strings.Repeat("|", 99), ""},
		{"one packet too many", strings.TrimSuffix(strings.Repeat("4\x1e", 101), "\x1e"), 400, strings.Repeat("|", 99), ReasonParseError},
		{"separators only", strings.Repeat("\x1e", limit), 400, "", ReasonParseError},
		{"data after a close", "4a\x1e1\x1e4b", 200, "a", ReasonTransportClose},
		{"what means nothing", "3\x1e5\x1e6\x1e0{}\x1e4a", 200, "a", ""},
		{"a ping", "4a\x1e2\x1e4b", 400, "a", ReasonTransportError},
		{"a big pong", "3" + strings.Repeat("x", limit-1), 200, "", ""},
	}
	for _, tt := range tests {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/chunked=%v", tt.name, chunked), func(t *testing.T) {
				bubble(t, Config{MaxPayload: limit, MaxPacketsPerPayload: 100}, func(t *testing.T, h *host) {
					query, r := h.openPolling()
					var body io.Reader = strings.NewReader(tt.body)
					if chunked {
						body = io.MultiReader(body) // hides the length
					}
					resp, err := h.Web.Post("http://test/socket.io/?"+query, "text/plain;charset=UTF-8", body)
					if err != nil {
						t.Fatal(err)
					}
					text, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					want := ""
					if tt.status == 200 {
						want = "ok"
					}
					if resp.StatusCode != tt.status || string(text) != want {
						t.Errorf("%d %q, want %d %q", resp.StatusCode, text, tt.status, want)
					}
					if got := strings.Join(r.messages(), "|"); got != tt.got {
						t.Errorf("got %s, want %s", peertest.Clip(got), peertest.Clip(tt.got))
					}
					if tt.reason != "" {
						h.wantEnd(tt.name, r, tt.reason)
					} else if r.session.Send(true, NewText([]byte("x"))); len(r.reasons()) > 0 {
						t.Errorf("closed with %q", r.reasons())
					} else {
						h.wantAnswer("the session lives", h.background("GET", query, ""), 200, "4x")
					}
				})
			})
		}
	}
}

// Requests that close their connection do not close the session, and parameters of the application's mean nothing to it.
func TestConnectionsOfTheirOwn(t *testing.T) {
	for _, first := range []string{"", "&t=P1x", "&t=1700000000.5"} { // whatever their client began with
		testConnectionsOfTheirOwn(t, first, "t=P1x")
	}
	testConnectionsOfTheirOwn(t, "&t=P1y", "t=1700000000.5")
	testConnectionsOfTheirOwn(t, "&t=P1y", "t=")
}

func testConnectionsOfTheirOwn(t *testing.T, first, stamp string) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPollingWith(first)
		query = stamp + "&b64=1&foo=a&foo=b&" + query
		for i := range 3 {
			if status, body := h.Request("POST", query, fmt.Sprint("4", i), "Connection", "close"); status != 200 || body != "ok" {
				t.Errorf("POST: %d %q", status, body)
			}
			r.session.Send(true, NewBinary([]byte{byte(i)}))
			if status, body := h.Request("GET", query, "", "Connection", "close"); status != 200 || body[0] != 'b' {
				t.Errorf("GET: %d %q", status, body)
			}
		}
		if got := strings.Join(r.messages(), ""); got != "012" || len(r.reasons()) > 0 {
			t.Errorf("got %q, closed with %q", got, r.reasons())
		}
	})
}

// A browser repeats a request whose kept connection broke. A POST that was taken already is not taken twice, and a poll ends the
// session: what the first one was answered has not arrived.
func TestRepeatedRequests(t *testing.T) {
	bubble(t, Config{MaxPayload: 100}, func(t *testing.T, h *host) {
		query, r := h.openPollingWith("&t=P")
		for range 2 {
			h.wantAnswer("too large", h.background("POST", query+"&t=P0", "4"+strings.Repeat("x", 100)), 413, "")
		}
		for _, body := range []string{"4a", "4a", "4b"} {
			h.wantAnswer("POST", h.background("POST", query+"&t=P1"+body[1:], body), 200, "ok")
		}
		if got := strings.Join(r.messages(), ""); got != "ab" {
			t.Errorf("got %q", got)
		}
		for i := range 2 {
			r.session.Send(true, NewText([]byte("x")))
			h.wantAnswer("poll", h.background("GET", fmt.Sprint(query, "&t=P2", i), ""), 200, "4x")
		}
		r.session.Send(true, NewText([]byte("x")))
		h.wantAnswer("the same poll", h.background("GET", query+"&t=P21", ""), 400, body3)
		h.wantEnd("a poll comes twice", r, ReasonTransportError)
	})
}

func TestContentTypes(t *testing.T) {
	for contentType, fine := range map[string]bool{
		"application/octet-stream": false, "": true, "text/plain": true, "multipart/form-data; boundary=x": true, "text/plain; charset=utf-7": true,
	} {
		bubble(t, Config{}, func(t *testing.T, h *host) {
			query, r := h.openPolling()
			status, body := h.Request("POST", query, "4a", "Content-Type", contentType)
			if fine && (status != 200 || body != "ok" || len(r.messages()) != 1) {
				t.Errorf("%q: %d %q, got %q", contentType, status, body, r.messages())
			}
			if !fine {
				if status != 400 || body != "" {
					t.Errorf("%q: %d %q", contentType, status, body)
				}
				h.wantEnd(contentType, r, ReasonTransportError)
			}
		})
	}
}

// Bodies are taken as they are: nothing that a client sends is inflated but WebSocket messages.
func TestContentEncodings(t *testing.T) {
	for coding, fine := range map[string]bool{"": true, "identity": true, "gzip": false, "gzip, gzip, gzip": false, "deflate": false, "br": false, "zstd": false, "snappy": false} {
		bubble(t, Config{}, func(t *testing.T, h *host) {
			query, r := h.openPolling()
			status, body := h.Request("POST", query, "4a", "Content-Encoding", coding)
			if fine && (status != 200 || body != "ok" || len(r.messages()) != 1) {
				t.Errorf("%q: %d %q, got %q", coding, status, body, r.messages())
			}
			if !fine {
				if status != 415 || body != "" {
					t.Errorf("%q: %d %q", coding, status, body)
				}
				h.wantEnd(coding, r, ReasonTransportError)
			}
		})
	}
}

func TestClientClosesByPost(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		poll := h.background("GET", query, "")
		h.wantAnswer("POST", h.background("POST", query, "1"), 200, "ok")
		h.wantAnswer("the waiting poll", poll, 200, "6")
		h.wantEnd("close packet", r, ReasonTransportClose)
	})
}

// A poll that was sent before the close packet may come behind it, over another connection. It ends like one that was there.
func TestCloseOvertakesAPoll(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		post := h.background("POST", query, "1")
		poll := h.background("GET", query, "")
		h.wantAnswer("the poll", poll, 200, "6")
		h.wantAnswer("POST", post, 200, "ok")
		h.wantAnswer("another poll", h.background("GET", query, ""), 400, body1)
		h.wantEnd("close packet", r, ReasonTransportClose)

		query, r = h.openPolling()
		start := time.Now()
		h.wantAnswer("POST of a client that does not poll", h.background("POST", query, "1"), 200, "ok")
		if d := time.Since(start); d != overtakeTime {
			t.Errorf("answered after %v", d)
		}
		h.wantAnswer("a poll that was sent after it", h.background("GET", query, ""), 400, body1)
		h.wantEnd("close packet", r, ReasonTransportClose)
	})
}

func TestCloseWaitsForAPoll(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		r.session.Send(true, NewText([]byte("a")))
		r.session.Close(ReasonForcedClose)
		time.Sleep(20 * time.Second)
		if got := r.reasons(); len(got) > 0 {
			t.Fatalf("closed with %q before the client could know", got)
		}
		h.wantAnswer("POST while closing", h.background("POST", query, "4ignored"), 200, "ok")
		h.wantAnswer("the next poll", h.background("GET", query, ""), 200, "4a\x1e1")
		h.wantEnd("closed", r, ReasonForcedClose)
		if len(r.messages()) > 0 {
			t.Errorf("got %q while closing", r.messages())
		}
	})
	bubble(t, Config{}, func(t *testing.T, h *host) {
		_, r := h.openPolling()
		r.session.Close(ReasonForcedClose)
		time.Sleep(31 * time.Second)
		h.wantEnd("nobody polls", r, ReasonForcedClose)
	})
}

func TestPollerThatIsGone(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		_, r := h.openPolling()
		time.Sleep(44 * time.Second)
		if got := r.reasons(); len(got) > 0 {
			t.Fatalf("closed with %q too early", got)
		}
		time.Sleep(2 * time.Second)
		h.wantEnd("after interval and timeout", r, ReasonPingTimeout)
	})
}

// A client that does not read its response is given up, and holds up nobody.
func TestPollNeverRead(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, h *host) {
		query, r := h.openPolling()
		r.session.Send(true, NewText([]byte("a")))
		conn, err := h.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /socket.io/?%s HTTP/1.1\r\nHost: test\r\n\r\n", query)
		time.Sleep(9 * time.Second)
		if !r.session.Send(true, NewText([]byte("b"))) {
			t.Fatal("closed too early")
		}
		time.Sleep(2 * time.Second)
		h.wantEnd("not read for 10 s", r, ReasonTransportError)
	})
}
