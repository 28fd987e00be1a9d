package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// The real server is in the scripts of cmd/holdpost. These are servers that break off where a real one can't be made to.

// breaking serves with f, which may panic with http.ErrAbortHandler to cut the connection.
func breaking(t *testing.T, f http.HandlerFunc) (address string) {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func runWith(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, notes strings.Builder
	code = Run(ctx, args, strings.NewReader(""), &out, &notes)
	return code, out.String(), notes.String()
}

func numbered(n int) string {
	return fmt.Sprintf(`{"topic":"t","offset":"~%d","id":"i%d","event":"e","args":[%d],"publishedAt":"2026-01-02T03:04:05Z"}`, n, n, n)
}

func TestTailGoesOnBehindABrokenLine(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stream atomic.Int32
	address := breaking(t, func(w http.ResponseWriter, r *http.Request) {
		from := r.URL.Query().Get("from")
		if r.URL.Query().Get("follow") == "" {
			next := map[string]string{"new": "~0", "~0": "~0", "~1": "~1", "~2": "~2"}[from]
			if next == "" {
				t.Errorf("page from %q", from)
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"events":[],"next":%q,"complete":true}`, next)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		turn := stream.Add(1)
		want := map[int32]string{1: "~0", 2: "~0", 3: "~1", 4: "~2"}[turn]
		if from != want {
			t.Errorf("stream %d from %q, want %q", turn, from, want)
		}
		flush := func(text string) {
			fmt.Fprint(w, text)
			http.NewResponseController(w).Flush()
		}
		switch turn {
		case 1: // nothing has come yet, and yet nothing may be missed
			flush("")
		case 2:
			flush(numbered(1) + "\n" + numbered(2)[:20])
		case 3:
			flush(numbered(2) + "\n" + numbered(3)) // as a whole, but who knows
		case 4:
			flush(numbered(3) + "\n")
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	})
	out := &ending{text: " 3\n", end: cancel}
	var notes strings.Builder
	code := Run(ctx, []string{"tail", "-f", "t", "--from", "new", "--server", address}, nil, out, &notes)
	stdout, stderr := out.String(), notes.String()
	want := "2026-01-02T03:04:05.000Z ~1 e 1\n2026-01-02T03:04:05.000Z ~2 e 2\n2026-01-02T03:04:05.000Z ~3 e 3\n"
	if code != 0 || stdout != want {
		t.Errorf("code %d, printed\n%swant\n%s", code, stdout, want)
	}
	if n := strings.Count(stderr, "lost the server at http://"+address); n != 3 {
		t.Errorf("told %d losses, want 3:\n%s", n, stderr)
	}
}

// ending is an output that calls end once the text has been written.
type ending struct {
	strings.Builder
	text string
	end  func()
}

func (e *ending) Write(p []byte) (int, error) {
	n, err := e.Builder.Write(p)
	if strings.Contains(e.String(), e.text) {
		e.end()
	}
	return n, err
}

func TestTailDoesNotWaitForAnotherServer(t *testing.T) {
	for name, answer := range map[string]struct{ kind, body string }{
		"a page":         {"text/html", "<h1>hello</h1>"},
		"other JSON":     {"application/json", `{"events":[{"x":1}],"next":"","complete":true}`},
		"a JSON problem": {"application/problem+json", `{"title":"no"}`},
	} {
		address := breaking(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", answer.kind)
			fmt.Fprint(w, answer.body)
		})
		code, stdout, stderr := runWith(t.Context(), "tail", "-f", "t", "--server", address)
		if code != exitUnavailable || stdout != "" || !strings.Contains(stderr, "is not the API of a Holdpost server") {
			t.Errorf("%s: code %d, printed %q\n%s", name, code, stdout, stderr)
		}
	}
}

func TestPublishSaysWhatIsKnown(t *testing.T) {
	problem := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"status":%d,"code":%q,"detail":"publish: the detail"}`, status, code)
		}
	}
	cases := []struct {
		name    string
		server  http.HandlerFunc
		code    int
		unknown bool // the event may be stored
		text    string
	}{
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, exitFailed, true, "lost the server"},
		{"cut off within the answer", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"topic":`)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, exitFailed, true, "lost the server"},
		{"unknown", problem(504, "unknown_outcome"), exitFailed, true, "(unknown_outcome)"},
		{"conflict", problem(409, "conflict"), exitFailed, false, "publish: the detail (conflict)"},
		{"full", problem(507, "storage_full"), exitFailed, false, "(storage_full)"},
		{"not ready", problem(503, "unavailable"), exitUnavailable, false, "(unavailable)"},
		{"invalid", problem(400, "invalid_topic"), exitUsage, false, "(invalid_topic)"},
		{"another server", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }, exitUnavailable, false, "it says 200 OK"},
	}
	for _, c := range cases {
		code, stdout, stderr := runWith(t.Context(), "publish", "t", "e", "--id", "mine", "--server", breaking(t, c.server))
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.text) {
			t.Errorf("%s: code %d, want %d and %q\n%s%s", c.name, code, c.code, c.text, stdout, stderr)
		}
		if unknown := strings.Contains(stderr, "may be stored") && strings.Contains(stderr, "again with --id mine"); unknown != c.unknown {
			t.Errorf("%s: unknown %v, want %v\n%s", c.name, unknown, c.unknown, stderr)
		}
	}
}

// A publish that is interrupted while it waits may be stored too.
func TestPublishInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := breaking(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then the server looks whether the client is there
		cancel()
		<-r.Context().Done()
	})
	code, _, stderr := runWith(ctx, "publish", "t", "e", "--server", address)
	if code != exitFailed || !strings.Contains(stderr, "may be stored") {
		t.Errorf("code %d\n%s", code, stderr)
	}
}
