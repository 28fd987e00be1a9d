package engineio

import (
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// deflateResponse accepts compression without context takeover in either direction (RFC 7692 §7.1.1), which a server may
// ask for whatever the client has offered.
const deflateResponse = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// acceptDeflate answers the offers of a handshake: with the first that can be kept to, or "".
func acceptDeflate(h http.Header) string {
	for _, list := range h["Sec-Websocket-Extensions"] {
		for offer := range strings.SplitSeq(list, ",") {
			name, params, _ := strings.Cut(offer, ";")
			if strings.TrimSpace(name) == "permessage-deflate" {
				if bits, ok := checkDeflateOffer(params); ok {
					return deflateResponse + bits
				}
			}
		}
	}
	return ""
}

// checkDeflateOffer reports whether an offer can be accepted, and what has to be said of the window then. The window of
// what is sent is always the largest. An offer with a parameter that is unknown, repeated or malformed is none (RFC 7692
// §7.1).
func checkDeflateOffer(params string) (bits string, ok bool) {
	seen := ""
	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		name, value, valued := strings.Cut(strings.TrimSpace(param), "=")
		value = strings.Trim(value, `"`)
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			ok = !valued
		case "client_max_window_bits":
			n, err := strconv.ParseUint(value, 10, 8)
			ok = !valued || err == nil && n >= 8 && n <= 15 && value[0] != '0'
		case "server_max_window_bits":
			ok = value == "15"
			bits = "; server_max_window_bits=15"
		default:
			ok = false
		}
		if !ok || strings.Contains(seen, name) {
			return "", false
		}
		seen += name + ";"
	}
	return bits, true
}

// An encoding is a content coding of a polling response.
type encoding struct {
	name string
	pool sync.Pool
}

type resetWriter interface {
	io.WriteCloser
	Reset(io.Writer)
}

var (
	gzipEncoding = &encoding{name: "gzip", pool: sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
		return w
	}}}
	// The content coding "deflate" is the zlib format (RFC 9110 §8.4.1.2).
	deflateEncoding = &encoding{name: "deflate", pool: sync.Pool{New: func() any {
		w, _ := zlib.NewWriterLevel(nil, zlib.BestSpeed)
		return w
	}}}
)

// acceptEncoding returns the coding that a client prefers, nil for none (RFC 9110 §12.5.3).
func acceptEncoding(h http.Header) *encoding {
	var best *encoding
	var bestQ float64
	for _, list := range h["Accept-Encoding"] {
		for part := range strings.SplitSeq(list, ",") {
			name, params, _ := strings.Cut(part, ";")
			e := encodingNamed(strings.TrimSpace(name))
			q := quality(params)
			if e != nil && (q > bestQ || q == bestQ && best != nil && e == gzipEncoding) {
				best, bestQ = e, q
			}
		}
	}
	return best
}

func encodingNamed(name string) *encoding {
	switch strings.ToLower(name) {
	case "gzip":
		return gzipEncoding
	case "deflate":
		return deflateEncoding
	}
	return nil
}

func quality(params string) float64 {
	name, value, _ := strings.Cut(strings.TrimSpace(params), "=")
	if !strings.EqualFold(name, "q") {
		return 1
	}
	q, err := strconv.ParseFloat(value, 64)
	if err != nil || q < 0 || q > 1 {
		return 0
	}
	return q
}

// append appends b in the coding.
func (e *encoding) append(dst, b []byte) []byte {
	w := e.pool.Get().(resetWriter)
	defer e.pool.Put(w)
	out := &appender{dst}
	w.Reset(out)
	_, _ = w.Write(b) // an appender takes everything
	_ = w.Close()
	dst, out.b = out.b, nil // the pool is not to keep it
	return dst
}

type appender struct{ b []byte }

func (a *appender) Write(b []byte) (int, error) {
	a.b = append(a.b, b...)
	return len(b), nil
}
