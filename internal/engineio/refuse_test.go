package engineio

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

// The bodies are what clients compare byte for byte.
const (
	body0 = `{"code":0,"message":"Transport unknown"}`
	body1 = `{"code":1,"message":"Session ID unknown"}`
	body2 = `{"code":2,"message":"Bad handshake method"}`
	body3 = `{"code":3,"message":"Bad request"}`
	body4 = `{"code":4,"message":"Forbidden"}`
	body5 = `{"code":5,"message":"Unsupported protocol version"}`
)

var upgradeHeaders = []string{
	"Upgrade", "websocket", "Connection", "Upgrade", "Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-Websocket-Version", "13",
}

// ask sends a request without a connection, so that a handshake that is not refused ends with 426.
func (h *host) ask(method, query string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/socket.io/?"+query, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header[header[i]] = append(r.Header[header[i]], header[i+1])
	}
	w := httptest.NewRecorder()
	h.srv.ServeHTTP(w, r)
	return w
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, method, query string
		upgrade             bool
		status              int
		body                string
	}{
		{"no transport", "GET", "EIO=4", false, 400, body0},
		{"empty transport", "GET", "EIO=4&transport=", false, 400, body0},
		{"webtransport", "GET", "EIO=4&transport=webtransport", false, 400, body0},
		{"unknown transport", "GET", "EIO=4&transport=foo", false, 400, body0},
		{"constructor", "GET", "EIO=4&transport=constructor", false, 400, body0},
		{"__proto__", "GET", "EIO=4&transport=__proto__", false, 400, body0},
		{"transport repeated", "GET", "EIO=4&transport=polling&transport=polling", false, 400, body0},
		{"transport escaped", "GET", "EIO=4&tr%61nsport=pollin%67&sid=x", false, 400, body1},
		{"transport before sid", "GET", "EIO=4&transport=foo&sid=x", false, 400, body0},

		{"unknown sid", "GET", "EIO=4&transport=polling&sid=x", false, 400, body1},
		{"unknown sid, POST", "POST", "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", false, 400, body1},
		{"sid __proto__", "GET", "EIO=4&transport=polling&sid=__proto__", false, 400, body1},
		{"sid repeated", "GET", "EIO=4&transport=polling&sid=LIVE&sid=LIVE", false, 400, body1},
		{"sid before EIO", "GET", "EIO=3&transport=polling&sid=x", false, 400, body1},

		{"EIO missing", "GET", "transport=polling", false, 400, body5},
		{"EIO 3", "GET", "EIO=3&transport=polling", false, 400, body5},
		{"EIO 5", "GET", "EIO=5&transport=polling", false, 400, body5},
		{"EIO 4x", "GET", "EIO=4x&transport=polling", false, 400, body5},
		{"EIO repeated", "GET", "EIO=4&EIO=4&transport=polling", false, 400, body5},
		{"EIO 3 of a live session", "GET", "EIO=3&transport=polling&sid=LIVE", false, 400, body3},
		{"EIO missing for a live session", "POST", "transport=polling&sid=LIVE", false, 400, body3},

		{"POST without sid", "POST", "EIO=4&transport=polling", false, 400, body2},
		{"OPTIONS without sid", "OPTIONS", "EIO=4&transport=polling", false, 400, body2},
		{"PUT with sid", "PUT", "EIO=4&transport=polling&sid=LIVE", false, 400, body3},
		{"DELETE with sid", "DELETE", "EIO=4&transport=polling&sid=LIVE", false, 400, body3},
		{"TRACE with sid", "TRACE", "EIO=4&transport=polling&sid=LIVE", false, 400, body3},
		{"lower-case method", "get", "EIO=4&transport=polling&sid=LIVE", false, 400, body3},

		{"websocket without upgrade", "GET", "EIO=4&transport=websocket", false, 400, body3},
		{"websocket without upgrade, with sid", "GET", "EIO=4&transport=websocket&sid=LIVE", false, 400, body3},
		{"poll of a websocket session", "GET", "EIO=4&transport=polling&sid=SOCKET", false, 400, body3},
		{"POST to a websocket session", "POST", "EIO=4&transport=polling&sid=SOCKET", false, 400, body3},

		{"upgrade, polling", "GET", "EIO=4&transport=polling", true, 400, "Bad request"},
		{"upgrade, polling, with sid", "GET", "EIO=4&transport=polling&sid=LIVE", true, 400, "Bad request"},
		{"upgrade, unknown transport", "GET", "EIO=4&transport=foo", true, 400, "Transport unknown"},
		{"upgrade, EIO 3", "GET", "EIO=3&transport=websocket", true, 400, "Unsupported protocol version"},
		{"upgrade, EIO 3 of a live session", "GET", "EIO=3&transport=websocket&sid=LIVE", true, 400, "Bad request"},
		{"upgrade, unknown sid", "GET", "EIO=4&transport=websocket&sid=x", true, 400, "Session ID unknown"},
		{"upgrade, POST", "POST", "EIO=4&transport=websocket", true, 400, "Bad handshake method"},
		{"upgrade, POST with sid", "POST", "EIO=4&transport=websocket&sid=LIVE", true, 400, "Bad request"},
		{"upgrade without a connection", "GET", "EIO=4&transport=websocket", true, 426, "Upgrade Required"},
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Config{})
		live, socket := h.connect(Polling), h.connect(WebSocket)
		for _, tt := range tests {
			query := strings.NewReplacer("LIVE", live.SID, "SOCKET", socket.SID).Replace(tt.query)
			var header []string
			if tt.upgrade {
				header = upgradeHeaders
			}
			w := h.ask(tt.method, query, header...)
			if w.Code != tt.status || w.Body.String() != tt.body {
				t.Errorf("%s: %d %s, want %d %s", tt.name, w.Code, w.Body, tt.status, tt.body)
			}
			want := "application/json"
			if tt.upgrade {
				want = "text/html"
			}
			if got := w.Header().Get("Content-Type"); got != want {
				t.Errorf("%s: content type %q", tt.name, got)
			}
			if len(w.Header()["Cache-Control"]) > 0 {
				t.Errorf("%s: an error says how to be cached", tt.name)
			}
		}
		live.Send("4still")
		live.record().session.Send(true, NewText([]byte("alive")))
		live.Want("the session has survived it all", "4alive")
		if n := h.srv.Len(); n != 2 {
			t.Errorf("%d sessions, want the 2 of the test", n)
		}
	})
}

// Every combination is answered with a code of the protocol, and none with 5xx or a session it should not get.
func TestRefusalMatrix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Config{})
		closed := h.connect(Polling)
		closed.record().session.Abort(ReasonForcedClose)
		live := h.connect(WebSocket)
		for _, transport := range []string{"polling", "websocket", "webtransport", "foo", "constructor", "", "polling&transport=websocket"} {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "CONNECT", "get", strings.Repeat("X", 1024)} {
				for _, sid := range []string{"", live.SID, closed.SID, "foreign", "__proto__", "%00", "%zz", strings.Repeat("a", 10_000)} {
					for _, upgrade := range []bool{false, true} {
						if transport == "polling" && method == "GET" && sid == "" && !upgrade {
							continue // this one opens a session
						}
						query := "EIO=4&transport=" + transport
						if sid != "" {
							query += "&sid=" + sid
						}
						var header []string
						if upgrade {
							header = upgradeHeaders
						}
						w := h.ask(method, query, header...)
						if w.Code != 400 && w.Code != 426 {
							t.Errorf("%s %s, upgrade %v: %d %s", method, query, upgrade, w.Code, w.Body)
						}
					}
				}
			}
		}
		if n := h.srv.Len(); n != 1 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestPath(t *testing.T) {
	h := newHost(t, Config{Path: "/rt/"})
	for path, want := range map[string]int{
		"/rt/": 400, "/rt": 400, "/rt/x": 404, "/": 404, "//rt/": 404, "/socket.io/": 404, "/rt/../rt/": 404, "/RT/": 404, "/rt%2f": 400,
	} {
		w := httptest.NewRecorder()
		h.srv.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func TestVeto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		veto := errors.New("")
		h := newHost(t, Config{
			AllowRequest: func(r *http.Request) error { asked++; return veto },
			CheckOrigin:  func(r *http.Request) bool { return r.Header.Get("Origin") != "https://evil" },
		})
		check := func(what string, w *httptest.ResponseRecorder, status int, body string) {
			t.Helper()
			if w.Code != status || w.Body.String() != body {
				t.Errorf("%s: %d %s, want %d %s", what, w.Code, w.Body, status, body)
			}
		}
		check("veto", h.ask("GET", "EIO=4&transport=polling"), 403, body4)
		check("veto on a websocket", h.ask("GET", "EIO=4&transport=websocket", upgradeHeaders...), 400, "Forbidden")
		veto = errors.New(`no "entry"`)
		check("veto with a reason", h.ask("GET", "EIO=4&transport=polling"), 403, `{"code":4,"message":"no \"entry\""}`)
		asked = 0
		check("version goes before the veto", h.ask("GET", "EIO=3&transport=polling"), 400, body5)
		if asked != 0 {
			t.Error("asked about a request of another version")
		}
		veto = nil
		c := h.connect(Polling)
		asked = 0
		evil := []string{"Origin", "https://evil"}
		check("origin of a handshake", h.ask("GET", "EIO=4&transport=polling", evil...), 403, body4)
		check("origin of a request", h.ask("POST", "EIO=4&transport=polling&sid="+c.SID, evil...), 403, body4)
		check("origin of a websocket", h.ask("GET", "EIO=4&transport=websocket", append(evil, upgradeHeaders...)...), 400, "Forbidden")
		check("origin of an upgrade", h.ask("GET", "EIO=4&transport=websocket&sid="+c.SID, append(evil, upgradeHeaders...)...), 400, "Forbidden")
		check("illegal origin", h.ask("GET", "EIO=4&transport=polling", "Origin", "a\x00b"), 400, body3)
		if asked != 0 {
			t.Error("asked about requests that were refused, or of a session")
		}
	})
}

func TestTransportsThatAreOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Config{Transports: []string{Polling}})
		if w := h.ask("GET", "EIO=4&transport=websocket", upgradeHeaders...); w.Code != 400 || w.Body.String() != "Transport unknown" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if _, body := h.Request("GET", "EIO=4&transport=polling", ""); !strings.Contains(body, `"upgrades":[]`) {
			t.Errorf("offers upgrades: %s", body)
		}
		h = newHost(t, Config{Transports: []string{WebSocket}})
		if w := h.ask("GET", "EIO=4&transport=polling"); w.Body.String() != body0 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		h = newHost(t, Config{NoUpgrades: true})
		_, body := h.Request("GET", "EIO=4&transport=polling", "")
		if !strings.Contains(body, `"upgrades":[]`) {
			t.Errorf("offers upgrades: %s", body)
		}
		if w := h.ask("GET", "EIO=4&transport=websocket&sid="+h.last().session.ID(), upgradeHeaders...); w.Code != 400 || w.Body.String() != "Bad request" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// RFC 6455 §4.2.1, row by row, over a connection.
func TestHandshake(t *testing.T) {
	const good = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\nHost: test\nUpgrade: websocket\nConnection: Upgrade\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n"
	tests := []struct {
		name     string
		old, new string
		status   int
	}{
		{"good", "", "", 101},
		{"upgrade in other case", "Upgrade: websocket", "Upgrade: WebSocket", 101},
		{"connection with keep-alive", "Connection: Upgrade", "Connection: keep-alive, upgrade", 101},
		{"two connection headers", "Connection: Upgrade", "Connection: keep-alive\nConnection: Upgrade", 101},
		{"version 8", "Version: 13", "Version: 8", 426},
		{"version 14", "Version: 13", "Version: 14", 426},
		{"no version", "Sec-WebSocket-Version: 13\n", "", 426},
		{"two versions", "Version: 13", "Version: 13\nSec-WebSocket-Version: 13", 426},
		{"no key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n", "", 400},
		{"short key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 400},
		{"long key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWVl", 400},
		{"key that is no base64", "dGhlIHNhbXBsZSBub25jZQ==", "!!!!IHNhbXBsZSBub25jZQ==", 400},
		{"two keys", "Sec-WebSocket-Version", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version", 400},
		{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 400},
		{"POST", "GET", "POST", 400},
		{"a body", "Host: test", "Host: test\nContent-Length: 3", 400},
		{"a chunked body", "Host: test", "Host: test\nTransfer-Encoding: chunked", 400},
		{"no upgrade", "Upgrade: websocket\n", "", 400},
		{"upgrade to something else", "Upgrade: websocket", "Upgrade: h2c", 400},
		{"no connection", "Connection: Upgrade\n", "", 400},
		{"spaces as extensions", "Host: test", "Host: test\nSec-WebSocket-Extensions: " + strings.Repeat(" ", 16<<10) + "x", 101},
		{"a thousand extensions", "Host: test", "Host: test\nSec-WebSocket-Extensions: " + strings.Repeat("permessage-deflate, ", 1000), 101},
		{"odd extension parameters", "Host: test", "Host: test\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7; \"\"; __proto__", 101},
		{"protocols", "Host: test", "Host: test\nSec-WebSocket-Protocol: " + strings.Repeat(",", 10_000) + "constructor", 101},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, Config{})
				conn, err := h.Dial()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				request := strings.ReplaceAll(strings.Replace(good, tt.old, tt.new, 1)+"\n", "\n", "\r\n")
				if tt.old == "" {
					request = strings.ReplaceAll(good+"\n", "\n", "\r\n")
				}
				go io.WriteString(conn, request)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != tt.status {
					t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
				}
				if resp.StatusCode == 426 && resp.Header.Get("Sec-Websocket-Version") != "13" {
					t.Error("426 does not say which version")
				}
				if resp.Header.Get("Sec-Websocket-Extensions") != "" {
					t.Errorf("agrees to %v", resp.Header)
				}
			})
		})
	}
}

func TestMaxSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Config{MaxSessions: 2})
		h.connect(Polling)
		c := h.connect(WebSocket)
		w := h.ask("GET", "EIO=4&transport=polling")
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		c.record().session.Abort(ReasonForcedClose)
		h.connect(Polling)
	})
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newID()
		if len(id) != 20 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

func FuzzQuery(f *testing.F) {
	for _, q := range []string{"EIO=4&transport=polling", "EIO=4&EIO=5", "s%69d=a+b", "&&==&sid", "sid=%zz", "%=%&sid=1;2"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q := parseQuery(raw)
		r, err := http.NewRequest("GET", "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL.RawQuery = raw; strings.Contains(raw, ";") {
			return // which net/url refuses
		}
		values := r.URL.Query()
		for name, got := range map[string]string{"EIO": q.eio, "transport": q.transport, "sid": q.sid} {
			if want := values[name]; len(want) == 1 && got != want[0] && !strings.Contains(raw, "%") {
				t.Errorf("%s of %q is %q, want %q", name, raw, got, want[0])
			}
		}
	})
}
