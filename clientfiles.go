package holdpost

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// clientFiles are the files of the official client, by name: the exact set that the reference server serves. One is read
// when it is asked for first, and then kept.
type clientFiles map[string]func() (clientBundle, error)

type clientBundle struct {
	body, zipped []byte
	etag         string
}

func newClientFiles(fsys fs.FS) clientFiles {
	if fsys == nil {
		return nil
	}
	files := make(clientFiles)
	for _, name := range []string{"socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"} {
		for _, name := range []string{name, name + ".map"} {
			files[name] = sync.OnceValues(func() (clientBundle, error) { return readBundle(fsys, name) })
		}
	}
	return files
}

func readBundle(fsys fs.FS, name string) (clientBundle, error) {
	body, err := fs.ReadFile(fsys, name)
	if err != nil {
		return clientBundle{}, err
	}
	sum := sha256.Sum256(body)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(body) // to memory, which takes everything
	z.Close()
	return clientBundle{body, zipped.Bytes(), `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}, nil
}

// serve answers a request for one of the files. It reports false for any other request.
func (f clientFiles) serve(w http.ResponseWriter, r *http.Request, name string) bool {
	load := f[name]
	if load == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	bundle, err := load()
	if err != nil {
		return false
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=0")
	h.Set("ETag", bundle.etag)
	h.Add("Vary", "Accept-Encoding")
	if matchesETag(r.Header.Get("If-None-Match"), bundle.etag) {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	h.Set("Content-Type", "application/javascript; charset=utf-8")
	if path.Ext(name) == ".map" {
		h.Set("Content-Type", "application/json; charset=utf-8")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	body := bundle.body
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		body = bundle.zipped
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		w.Write(body)
	}
	return true
}

// matchesETag compares weakly, as RFC 9110 §13.1.2 wants it for If-None-Match.
func matchesETag(header, etag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
			return true
		}
	}
	return false
}

// acceptsGzip reports whether a client takes gzip (RFC 9110 §12.5.3).
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, weight, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q, weighted := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(weight), " ", ""), "q=")
			v, err := strconv.ParseFloat(q, 64)
			return !weighted || err == nil && v > 0
		}
	}
	return false
}
