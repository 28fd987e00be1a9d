package holdpost_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/peertest"
)

const (
	foreign = "https://evil.example"
	allowed = "https://app.example"
)

func TestCORS(t *testing.T) {
	const acao, acac, acah = "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers"
	long := strings.Repeat("x-a,", 300)
	tests := []struct {
		name    string
		origins []string
		method  string
		header  []string
		status  int
		want    map[string]string
	}{
		{"no origin", nil, "GET", nil, 200, nil},
		{"the own host", nil, "GET", []string{"Origin", "http://example.com"}, 200, map[string]string{acao: "http://example.com", acac: "true"}},
		{"a foreign one by default (CVE-2020-28481)", nil, "GET", []string{"Origin", foreign, "Cookie", "a=b"}, 403, nil},
		{"an allowed one", []string{allowed}, "GET", []string{"Origin", allowed}, 200, map[string]string{acao: allowed, acac: "true"}},
		{"another", []string{allowed}, "GET", []string{"Origin", foreign}, 403, nil},
		{"anyone, but without credentials", []string{"*"}, "GET", []string{"Origin", foreign}, 200, map[string]string{acao: "*"}},
		{"preflight", []string{allowed}, "OPTIONS", []string{"Origin", allowed, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-a"}, 204,
			map[string]string{acao: allowed, acac: "true", acah: "x-a", "Access-Control-Allow-Methods": "GET, POST"}},
		{"preflight of another", []string{allowed}, "OPTIONS", []string{"Origin", foreign, "Access-Control-Request-Method", "POST"}, 403, nil},
		{"preflight that asks for too much", []string{allowed}, "OPTIONS", []string{"Origin", allowed, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", long}, 400, map[string]string{acao: allowed, acac: "true"}},
		{"OPTIONS that is no preflight", []string{allowed}, "OPTIONS", []string{"Origin", allowed}, 400, map[string]string{acao: allowed, acac: "true"}},
		{"an origin with a control character", []string{"*"}, "GET", []string{"Origin", "https://a\x01b"}, 400, map[string]string{acao: "*"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := holdpost.NewServer(&holdpost.Config{Origins: tt.origins})
			defer srv.Close()
			r := httptest.NewRequest(tt.method, "http://example.com/socket.io/?EIO=4&transport=polling", nil)
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Add(tt.header[i], tt.header[i+1])
			}
			rec := httptest.NewRecorder()
			srv.ServeHTTP(rec, r)
			if rec.Code != tt.status {
				t.Errorf("status %d, want %d: %s", rec.Code, tt.status, rec.Body)
			}
			for _, name := range []string{acao, acac, acah, "Access-Control-Allow-Methods"} {
				if got := rec.Header().Get(name); got != tt.want[name] {
					t.Errorf("%s: %q, want %q", name, got, tt.want[name])
				}
			}
			if r.Header.Get("Origin") != "" && rec.Header().Get("Vary") != "Origin" {
				t.Errorf("Vary: %q", rec.Header().Get("Vary"))
			}
			if rec.Code == 204 && rec.Body.Len() > 0 {
				t.Errorf("body %q", rec.Body)
			}
		})
	}
}

// The origin counts for every request and transport: CORS protects no WebSocket.
func TestOriginOfEveryTransport(t *testing.T) {
	bubble(t, holdpost.Config{Origins: []string{allowed}}, func(t *testing.T, w *world) {
		for _, transport := range peertest.Transports {
			w.Connect(transport, "Origin", allowed)
			w.Connect(transport)
		}
		query := w.openPolling()
		if status, _ := w.Request("GET", query, "", "Origin", foreign); status != 403 {
			t.Errorf("a poll: %d", status)
		}
		if status, _ := w.Request("POST", query, "40", "Origin", foreign); status != 403 {
			t.Errorf("a POST: %d", status)
		}
		for _, q := range []string{"EIO=4&transport=websocket", strings.Replace(query, "polling", "websocket", 1)} {
			conn, err := w.Dial()
			if err != nil {
				t.Fatal(err)
			}
			go io.WriteString(conn, peertest.WebSocketRequest(q, "Origin", foreign, "Cookie", "session=victim"))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 400 || string(body) != "Forbidden" {
				t.Errorf("a WebSocket handshake: %d %q", resp.StatusCode, body)
			}
			conn.Close()
		}
	})
}
