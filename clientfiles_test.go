package holdpost_test

import (
	"compress/gzip"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/holdpost/holdpost"
)

func TestClientFiles(t *testing.T) {
	files := fstest.MapFS{
		"package.json":     {Data: []byte("{}")},
		"socket.io.min.js": {Data: []byte(strings.Repeat("io();", 1000))},
	}
	for _, name := range []string{"socket.io.js", "socket.io.js.map", "socket.io.min.js.map", "socket.io.esm.min.js", "socket.io.esm.min.js.map", "socket.io.msgpack.min.js"} {
		files[name] = &fstest.MapFile{Data: []byte("// " + name)}
	}
	srv := holdpost.NewServer(&holdpost.Config{Path: "/io", Origins: []string{allowed}, ClientFiles: files})
	defer srv.Close()
	get := func(method, path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://example.com"+path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		rec := httptest.NewRecorder()
		srv.ServeHTTP(rec, r)
		return rec
	}
	for name, f := range files {
		rec := get("GET", "/io/"+name)
		if name == "package.json" {
			if rec.Code != 404 {
				t.Errorf("%s is served: %d", name, rec.Code)
			}
			continue
		}
		want := "application/javascript; charset=utf-8"
		if strings.HasSuffix(name, ".map") {
			want = "application/json; charset=utf-8"
		}
		if rec.Code != 200 || rec.Body.String() != string(f.Data) || rec.Header().Get("Content-Type") != want || rec.Header().Get("Cache-Control") != "public, max-age=0" {
			t.Errorf("%s: %d %q %v", name, rec.Code, rec.Body, rec.Header())
		}
	}
	const file = "/io/socket.io.min.js"
	etag := get("GET", file).Header().Get("ETag")
	for header, status := range map[string]int{etag: 304, "W/" + etag: 304, `"other", ` + etag: 304, "*": 304, `"other"`: 200, "": 200} {
		rec := get("GET", file, "If-None-Match", header)
		if rec.Code != status || status == 304 && rec.Body.Len() > 0 || rec.Header().Get("ETag") != etag {
			t.Errorf("If-None-Match %s: %d, %d bytes", header, rec.Code, rec.Body.Len())
		}
	}
	for header, zipped := range map[string]bool{"gzip": true, "br, GZIP;q=0.5": true, "gzip;q=0": false, "gzip; q=x": false, "deflate": false, "": false} {
		rec := get("GET", file, "Accept-Encoding", header)
		var body io.Reader = rec.Body
		if zipped {
			z, err := gzip.NewReader(rec.Body)
			if err != nil {
				t.Fatalf("Accept-Encoding %s: %v", header, err)
			}
			body = z
		}
		b, err := io.ReadAll(body)
		if err != nil || string(b) != string(files["socket.io.min.js"].Data) || (rec.Header().Get("Content-Encoding") == "gzip") != zipped {
			t.Errorf("Accept-Encoding %s: %d bytes, %v, %v", header, len(b), rec.Header(), err)
		}
	}
	if rec := get("HEAD", file); rec.Code != 200 || rec.Body.Len() > 0 || rec.Header().Get("Content-Length") != "5000" {
		t.Errorf("HEAD: %d %v", rec.Code, rec.Header())
	}
	if rec := get("GET", file, "Origin", allowed); rec.Header().Get("Access-Control-Allow-Origin") != allowed {
		t.Errorf("with an origin: %v", rec.Header())
	}
	for _, path := range []string{"/io/socket.io.msgpack.min.js.map", "/io/../socket.io.js", "/io/%2e%2e/socket.io.js", "/io/socket.io.js/", "/io/x/socket.io.js", "/socket.io.js", "/iosocket.io.js", "/io/socket.io.js%00"} {
		if rec := get("GET", path); rec.Code != 404 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	if rec := get("POST", file); rec.Code == 200 {
		t.Errorf("POST: %d", rec.Code)
	}
	if rec := get("GET", "/io?EIO=4&transport=polling"); rec.Code != 200 {
		t.Errorf("a handshake without slash: %d", rec.Code)
	}
	without := holdpost.NewServer(nil)
	rec := httptest.NewRecorder()
	without.ServeHTTP(rec, httptest.NewRequest("GET", "http://example.com/socket.io/socket.io.js", nil))
	if rec.Code != 404 {
		t.Errorf("without files: %d", rec.Code)
	}
}
