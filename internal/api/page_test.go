package api

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/internal/peertest"
)

// The calls of docs/api.md, one after the other as they stand there, with what stands for an offset and a socket's id replaced by
// real ones.
func TestCallsOfThePage(t *testing.T) {
	n := start(t)
	peer := n.host.Connect(peertest.WebSocket)
	peer.Send("40")
	peer.Next()
	var socket string
	for s := range n.main.Sockets() {
		socket = s.ID()
	}
	b, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var offset string
	calls := 0
	call := regexp.MustCompile(`api (?:-N )?(?:-X ([A-Z]+) )?"?\$at(/[^ "\n]*)"?(?: +-d '([^']*)')?`)
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
		for _, m := range call.FindAllStringSubmatch(block[1], -1) {
			method, target, body := m[1], m[2], strings.ReplaceAll(m[3], "~…", offset)
			if strings.Contains(target, "follow=true") || strings.HasPrefix(target, "/v1/store/") {
				continue // it has no end; it is internal/app's
			}
			if method == "" {
				method = "GET"
				if body != "" {
					method = "POST"
				}
			}
			calls++
			code, out := n.do(method, strings.ReplaceAll(target, "$ID", socket), body)
			if code >= 300 {
				t.Errorf("%s: %d %v", m[0], code, out)
			}
			if events, ok := out["events"].([]any); ok && len(events) > 0 {
				offset, _ = events[0].(map[string]any)["offset"].(string)
			}
		}
	}
	if calls < 20 {
		t.Errorf("%d calls were found on the page", calls)
	}
}

// The calls that the other documents name are among those of the API.
func TestCallsOfTheDocuments(t *testing.T) {
	n := start(t)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(GET|POST|PUT|DELETE) (/v1/[^` ?]*)").FindAllStringSubmatch(string(b), -1) {
			seen++
			r := httptest.NewRequest(m[1], strings.NewReplacer("{", "", "}", "").Replace(m[2]), nil)
			r.Host = "127.0.0.1"
			if _, _, err := n.description.FindRoute(r); err != nil && m[2] != "/v1/store/backup" {
				t.Errorf("%s has %s %s: %v", page, m[1], m[2], err)
			}
		}
	}
	if seen < 8 {
		t.Errorf("%d calls were found", seen)
	}
}
