package holdpost_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/peertest"
)

// dialHTTP makes one request on a connection of its own.
func (w *world) dialHTTP(request string) *http.Response {
	w.t.Helper()
	conn, err := w.Dial()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	go io.WriteString(conn, request)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp
}

func TestOnRefused(t *testing.T) {
	var got record
	veto := errors.New("not today")
	c := holdpost.Config{
		Origins: []string{allowed},
		AllowRequest: func(r *http.Request) error {
			if r.URL.Query().Has("veto") {
				return veto
			}
			return nil
		},
		OnRefused: func(r *http.Request, why *holdpost.RequestError) {
			got.add("%d %d %s %v", why.Status, why.Code, why, errors.Is(why, veto))
		},
	}
	bubble(t, c, func(t *testing.T, w *world) {
		polling := w.openPolling()
		ws := w.connect(peertest.WebSocket)
		for _, tt := range []struct{ method, query, origin, want string }{
			{"GET", "EIO=4&transport=pigeon", "", "400 0 Transport unknown false"},
			{"GET", "EIO=4&transport=polling&sid=nobody", "", "400 1 Session ID unknown false"},
			{"POST", "EIO=4&transport=polling", "", "400 2 Bad handshake method false"},
			{"GET", "EIO=4&transport=websocket", "", "400 3 Bad request: transport and Upgrade header do not fit false"},
			{"GET", "EIO=4&transport=polling&sid=" + ws.SID, "", "400 3 Bad request: request of another transport than the session's false"},
			{"PUT", polling, "", "400 3 Bad request: method not allowed false"},
			{"GET", strings.Replace(polling, "EIO=4", "EIO=3", 1), "", "400 3 Bad request: protocol revision of another session false"},
			{"GET", "EIO=4&transport=polling", foreign, "403 4 Forbidden: origin not allowed false"},
			{"GET", "EIO=4&transport=polling&veto", "", "403 4 not today: not today true"},
			{"GET", "EIO=3&transport=polling", "", "400 5 Unsupported protocol version false"},
		} {
			var header []string
			if tt.origin != "" {
				header = []string{"Origin", tt.origin}
			}
			before := len(got.all())
			w.Request(tt.method, tt.query, "", header...)
			if lines := got.all()[before:]; len(lines) != 1 || lines[0] != tt.want {
				t.Errorf("%s %s: got %q, want %q", tt.method, tt.query, lines, tt.want)
			}
		}
		before := len(got.all())
		resp := w.dialHTTP(peertest.WebSocketRequest("EIO=4&transport=websocket", "Origin", foreign))
		if lines := got.all()[before:]; resp.StatusCode != 400 || len(lines) != 1 || lines[0] != "403 4 Forbidden: origin not allowed false" {
			t.Errorf("a WebSocket: %d, got %q", resp.StatusCode, lines)
		}
		for _, transport := range peertest.Transports {
			w.connect(transport)
		}
		if n := len(got.all()); n != before+1 {
			t.Errorf("%d more for what was served", n-before-1)
		}
	})
}

// What stands around the server may answer itself, and its headers reach every response: of polls and of handshakes.
func TestMiddleware(t *testing.T) {
	run(t, holdpost.Config{Cookie: &http.Cookie{}}, func(t *testing.T, w *world, transport string) {
		var seen atomic.Int32
		w.Host = peertest.New(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			seen.Add(1)
			rw.Header().Set("Strict-Transport-Security", "max-age=1")
			if r.Header.Get("Authorization") == "wrong" {
				http.Error(rw, "who are you?", http.StatusUnauthorized)
				return
			}
			w.srv.ServeHTTP(rw, r)
		}))
		if transport == peertest.WebSocket {
			resp := w.dialHTTP(peertest.WebSocketRequest("EIO=4&transport=websocket"))
			if resp.StatusCode != 101 || resp.Header.Get("Strict-Transport-Security") != "max-age=1" || len(resp.Cookies()) != 0 {
				t.Errorf("handshake: %d %v", resp.StatusCode, resp.Header)
			}
			resp = w.dialHTTP(peertest.WebSocketRequest("EIO=4&transport=websocket", "Authorization", "wrong"))
			if resp.StatusCode != 401 {
				t.Errorf("refused: %d", resp.StatusCode)
			}
		} else {
			resp, err := w.Web.Get("http://test/socket.io/?EIO=4&transport=polling")
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.Header.Get("Strict-Transport-Security") != "max-age=1" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("poll: %v", resp.Header)
			}
			cookie := resp.Header.Get("Set-Cookie")
			name, sid, _ := strings.Cut(cookie, "=")
			if name != "io" || !strings.Contains(string(body), fmt.Sprintf("%q", strings.Split(sid, ";")[0])) {
				t.Errorf("cookie %q of %s", cookie, body)
			}
			if status, text := w.Request("GET", "EIO=4&transport=polling", "", "Authorization", "wrong"); status != 401 || text != "who are you?\n" {
				t.Errorf("refused: %d %q", status, text)
			}
		}
		before := seen.Load()
		w.connect(transport)
		if seen.Load() == before {
			t.Error("a request went past")
		}
	})
}

func TestMaxConnections(t *testing.T) {
	for _, transport := range []string{peertest.Polling, peertest.WebSocket} {
		bubble(t, holdpost.Config{MaxConnections: 2}, func(t *testing.T, w *world) {
			w.connect(transport)
			last := w.connect(transport)
			if status, _ := w.Request("GET", "EIO=4&transport=polling", ""); status != 503 {
				t.Errorf("one too many polls: %d", status)
			}
			conn := w.DialWebSocket("EIO=4&transport=websocket")
			p := w.NewPeer()
			p.Read(conn)
			p.Want("one too many WebSockets", "close 1013")
			p.Close()
			last.Send("1")
			last.wantClosed("one has left")
			synctest.Wait()
			w.connect(transport)
		})
	}
}

func TestNoUpgrades(t *testing.T) {
	bubble(t, holdpost.Config{NoUpgrades: true}, func(t *testing.T, w *world) {
		c := w.connect(peertest.Polling)
		if !strings.Contains(c.Open, `"upgrades":[]`) {
			t.Errorf("open packet %s", c.Open)
		}
		resp := w.dialHTTP(peertest.WebSocketRequest("EIO=4&transport=websocket&sid=" + c.SID))
		if resp.StatusCode != 400 {
			t.Errorf("upgrade: %d", resp.StatusCode)
		}
		w.connect(peertest.WebSocket)
	})
}
