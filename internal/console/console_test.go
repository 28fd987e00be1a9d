package console

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// built returns the real assets with a stand-in for the client, whether make has run or not.
func built(t *testing.T) pages {
	t.Helper()
	return newPages(assets(t, true))
}

func assets(t *testing.T, withClient bool) fs.FS {
	t.Helper()
	out := make(fstest.MapFS)
	dir := os.DirFS("assets")
	names, err := fs.Glob(dir, "*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		body, err := fs.ReadFile(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = &fstest.MapFile{Data: body}
	}
	if withClient {
		out[client] = &fstest.MapFile{Data: []byte("// io")}
	}
	return out
}

func get(h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost/", nil)
	r.URL.Path = path
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestFilesAreAnExactSet(t *testing.T) {
	p := built(t)
	want := []string{"/", "/favicon.svg", "/link.js", "/pane.js", "/playground.css", "/playground.js", "/" + client}
	var got []string
	for path := range p {
		got = append(got, path)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("paths served:\n got %q\nwant %q", got, want)
	}
	for _, path := range []string{
		"", "/index.html", "/missing.html", "/vendor", "/vendor/", "/../console.go", "/assets/index.html", "/playground.js/",
		"/./playground.js", "//playground.js", "/vendor/../playground.js", "/%2e%2e/console.go", "/playground.js\x00", `/..\console.go`,
		"/vendor/socket.io.min.js.map", "/PLAYGROUND.JS", "/favicon.ico",
	} {
		if w := get(p, "GET", path); w.Code != http.StatusNotFound {
			t.Errorf("GET %q: status %d, want 404", path, w.Code)
		}
	}
}

func TestHeaders(t *testing.T) {
	p := built(t)
	types := map[string]string{
		"/": "text/html; charset=utf-8", "/playground.css": "text/css; charset=utf-8", "/favicon.svg": "image/svg+xml",
		"/playground.js": "text/javascript; charset=utf-8", "/" + client: "text/javascript; charset=utf-8",
	}
	for path, want := range types {
		w := get(p, "GET", path)
		if got := w.Header().Get("Content-Type"); got != want {
			t.Errorf("%s: content type %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"/", "/nothing"} {
		w := get(p, "GET", path)
		csp := w.Header().Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'"} {
			if !strings.Contains(csp, part) {
				t.Errorf("%s: policy %q lacks %q", path, csp, part)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options %q", path, got)
		}
	}
}

func TestMethodsAndValidators(t *testing.T) {
	p := built(t)
	first := get(p, "GET", "/")
	etag := first.Header().Get("ETag")
	if etag == "" || first.Code != http.StatusOK || first.Body.Len() == 0 {
		t.Fatalf("GET /: %d, etag %q, %d bytes", first.Code, etag, first.Body.Len())
	}
	cases := []struct {
		name, method string
		header       []string
		code, bytes  int
	}{
		{"head", "HEAD", nil, 200, 0},
		{"same", "GET", []string{"If-None-Match", etag}, 304, 0},
		{"weak in a list", "GET", []string{"If-None-Match", `"x", W/` + etag}, 304, 0},
		{"any", "GET", []string{"If-None-Match", "*"}, 304, 0},
		{"other", "GET", []string{"If-None-Match", `"x"`}, 200, first.Body.Len()},
		{"ranges are ignored", "GET", []string{"Range", "bytes=" + strings.Repeat("0-0,", 10_000) + "0-0"}, 200, first.Body.Len()},
		{"post", "POST", nil, 405, -1},
		{"delete", "DELETE", nil, 405, -1},
	}
	for _, c := range cases {
		w := get(p, c.method, "/", c.header...)
		if w.Code != c.code || c.bytes >= 0 && w.Body.Len() != c.bytes {
			t.Errorf("%s: %d with %d bytes, want %d with %d", c.name, w.Code, w.Body.Len(), c.code, c.bytes)
		}
	}
}

func TestWithoutTheClientThePageSaysHowToBuildIt(t *testing.T) {
	p := newPages(assets(t, false))
	w := get(p, "GET", "/")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "make build") {
		t.Errorf("GET /: %d\n%s", w.Code, w.Body)
	}
	if w := get(p, "GET", "/playground.js"); w.Code != http.StatusNotFound {
		t.Errorf("the script that needs the client: status %d, want 404", w.Code)
	}
}

// The policy forbids inline script and style; a page that has some would look broken only in a browser.
func TestPagesHaveNothingInlineAndNothingForeign(t *testing.T) {
	forbidden := []*regexp.Regexp{
		regexp.MustCompile(`(?i)<script(>|[^>]*>[^<])`),
		regexp.MustCompile(`(?i)<style`),
		regexp.MustCompile(`(?i)\sstyle=`),
		regexp.MustCompile(`(?i)\son[a-z]+=`),
		regexp.MustCompile(`(?i)(src|href)="(https?:)?//`),
		regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(`),
		regexp.MustCompile(`@import|url\(`),
	}
	dir := os.DirFS("assets")
	names, err := fs.Glob(dir, "*.*")
	if err != nil || len(names) < 6 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		body, err := fs.ReadFile(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, pattern := range forbidden {
			if found := pattern.Find(body); found != nil {
				t.Errorf("%s: %q", name, found)
			}
		}
	}
}

func TestPageNamesWhatTestsLookFor(t *testing.T) {
	page := get(built(t), "GET", "/").Body.String()
	for _, id := range []string{
		"identity", "status", "room-input", "room-send", "room-log", "topic-input", "topic-publish", "topic-log",
		"offline-switch", "missed-list", "packets",
	} {
		if n := strings.Count(page, `data-testid="`+id+`"`); n != 1 {
			t.Errorf("data-testid %q stands in the page %d times, want once", id, n)
		}
	}
}

func TestHandlerServesWhatIsEmbedded(t *testing.T) {
	w := get(Handler(), "GET", "/")
	want := "without the playground"
	if Built() {
		want = `id="panes"`
	}
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
		t.Errorf("GET /: %d, built %v\n%s", w.Code, Built(), w.Body)
	}
}
