package console

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed assets
var embedded embed.FS

// client is the official client's place among the assets, if make has put it there.
const client = "vendor/socket.io.min.js"

// policy lets the pages load their own files and open connections to this server, and nothing else. ws: and wss: stand
// there because older browsers do not count them into 'self'.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

type file struct {
	body        []byte
	contentType string
	etag        string
}

// Handler returns the playground: a page at "/" and the files that it loads. Everything else is 404.
func Handler() http.Handler {
	assets, err := fs.Sub(embedded, "assets")
	if err != nil {
		panic(err) // the directory is part of the package
	}
	return newPages(assets)
}

// Built reports whether this binary holds the client that the playground needs.
func Built() bool {
	_, err := fs.Stat(embedded, "assets/"+client)
	return err == nil
}

// ClientFiles returns the bundles of the official client that this binary holds, which may be none.
func ClientFiles() fs.FS {
	files, err := fs.Sub(embedded, "assets/vendor")
	if err != nil {
		panic(err) // the name is valid
	}
	return files
}

type pages map[string]*file // by URL path

func newPages(assets fs.FS) pages {
	p := make(pages)
	names := []string{"playground.css", "favicon.svg"}
	if _, err := fs.Stat(assets, client); err == nil {
		names = append(names, "playground.js", "pane.js", "link.js", client)
		p["/"] = read(assets, "index.html")
	} else {
		p["/"] = read(assets, "missing.html")
	}
	for _, name := range names {
		p["/"+name] = read(assets, name)
	}
	return p
}

func read(assets fs.FS, name string) *file {
	body, err := fs.ReadFile(assets, name)
	if err != nil {
		panic(err) // the set is fixed at build time and a test opens every file of it
	}
	sum := sha256.Sum256(body)
	return &file{
		body:        body,
		contentType: contentTypes[path.Ext(name)],
		etag:        `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
	}
}

func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	f, ok := p[r.URL.Path]
	if !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "no-cache") // ask each time: another build of the server may answer on the same port
	if matches(r.Header.Get("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Length", strconv.Itoa(len(f.body)))
	if r.Method == http.MethodGet {
		w.Write(f.body)
	}
}

// matches compares weakly, as RFC 9110 §13.1.2 wants it for If-None-Match.
func matches(header, etag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
			return true
		}
	}
	return false
}
