package client

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/holdpost/holdpost/internal/frame"
)

// A webSocket is one connection behind its handshake (RFC 6455). Reading belongs to one goroutine, writing to another.
type webSocket struct {
	// Static after construction.
	conn    io.ReadWriteCloser
	timeout time.Duration // of a write
	deflate bool          // messages may be compressed, each by itself

	// Owned by the reader.
	frames frame.Reader
	small  [512]byte // what an idle connection reads into

	// Owned by the writer.
	out *burst // frames that were not written yet; nil when there are none
}

// dialWebSocket opens a WebSocket: a new session, or with a sid one that is to be upgraded.
func (l *link) dialWebSocket(ctx context.Context, sid string) (*webSocket, *DialError) {
	c := l.client
	r := c.request(ctx, http.MethodGet, webSocketName, sid, nil)
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", key)
	if c.config.PerMessageDeflate {
		r.Header.Set("Sec-WebSocket-Extensions", deflateOffer)
	}
	resp, err := l.web.Do(r)
	if err != nil {
		return nil, requestError(err)
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		defer resp.Body.Close()
		e := answerError(resp)
		if e.Status == http.StatusOK || e.Status == http.StatusSwitchingProtocols {
			e.Code, e.Err = codeNotSocketIO, errors.New("no WebSocket was opened")
		}
		return nil, e
	}
	deflate, extended := acceptedDeflate(resp.Header, c.config.PerMessageDeflate)
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
	if !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") ||
		resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) ||
		!extended {
		conn.Close()
		return nil, &DialError{Code: codeMalformed, Status: resp.StatusCode, Err: errors.New("the WebSocket handshake is not answered as RFC 6455 wants it")}
	}
	ws := &webSocket{conn: conn, timeout: c.config.WriteTimeout, deflate: deflate, frames: frame.Reader{Limits: c.frames}}
	if deflate {
		ws.frames.Limits = c.deflated
	}
	return ws, nil
}

const (
	// deflateOffer asks for compression of each message by itself (RFC 7692 §7.1.1): nothing is held between two of them.
	deflateOffer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	compressFrom = 1024 // bytes of a message
)

// acceptedDeflate reports whether the server has accepted compression, and whether what it says of extensions is an answer to
// what was offered at all: with the context of earlier messages, or with a window of ours that is smaller, it is none.
func acceptedDeflate(h http.Header, offered bool) (deflate, ok bool) {
	answers := h.Values("Sec-WebSocket-Extensions")
	if len(answers) == 0 || len(answers) == 1 && answers[0] == "" {
		return false, true
	}
	name, params, _ := strings.Cut(answers[0], ";")
	if !offered || len(answers) > 1 || strings.TrimSpace(name) != "permessage-deflate" {
		return false, false
	}
	alone := false
	for param := range strings.SplitSeq(params, ";") {
		switch name, _, _ := strings.Cut(strings.TrimSpace(param), "="); name {
		case "server_no_context_takeover":
			alone = true
		case "client_no_context_takeover", "server_max_window_bits":
		default:
			return false, false
		}
	}
	return true, alone
}

// large are buffers for connections that have much to read.
var large = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// read reads once, and more as long as there is much, and hands over what became complete.
func (w *webSocket) read(h frame.Handler) error {
	n, err := w.conn.Read(w.small[:])
	return w.took(n, err, h)
}

// took takes what was read into small.
func (w *webSocket) took(n int, err error, h frame.Handler) error {
	if e := w.frames.Feed(w.small[:n], h); e != nil || err != nil {
		return errors.Join(e, err)
	}
	if n < len(w.small) {
		return nil
	}
	buf := large.Get().(*[16 << 10]byte)
	defer large.Put(buf)
	for n = len(buf); n >= len(w.small); {
		n, err = w.conn.Read(buf[:])
		if e := w.frames.Feed(buf[:n], h); e != nil || err != nil {
			return errors.Join(e, err)
		}
	}
	return nil
}

// A burst is frames that leave in one write, and random bytes to mask them with.
type burst struct {
	frames []byte
	keys   [256]byte
	used   int // of keys
}

const maxBurst = 64 << 10

var bursts = sync.Pool{New: func() any { return &burst{used: len(burst{}.keys)} }}

// key returns four bytes that nobody can predict (RFC 6455 §10.3).
func (b *burst) key() [4]byte {
	if b.used == len(b.keys) {
		rand.Read(b.keys[:])
		b.used = 0
	}
	key := [4]byte(b.keys[b.used:])
	b.used += len(key)
	return key
}

func (w *webSocket) text(packet []byte) error    { return w.append(frame.Text, packet) }
func (w *webSocket) binary(message []byte) error { return w.append(frame.Binary, message) }
func (w *webSocket) pong(payload []byte) error   { return w.append(frame.Pong, payload) }

func (w *webSocket) append(op frame.Opcode, payload []byte) error {
	if w.out == nil {
		w.out = bursts.Get().(*burst)
	}
	if w.deflate && op < frame.Close && len(payload) >= compressFrom {
		w.out.frames = frame.AppendMaskedCompressed(w.out.frames, op, w.out.key(), payload)
	} else {
		w.out.frames = frame.AppendMasked(w.out.frames, op, true, w.out.key(), payload)
	}
	if len(w.out.frames) < maxBurst {
		return nil
	}
	return w.flush()
}

// flush writes what was appended. A write that stands still for too long closes the connection.
func (w *webSocket) flush() error {
	b := w.out
	if b == nil {
		return nil
	}
	w.out = nil
	watch := time.AfterFunc(w.timeout, w.close)
	_, err := w.conn.Write(b.frames)
	if !watch.Stop() && err != nil {
		err = fmt.Errorf("the server took nothing for %v: %w", w.timeout, err)
	}
	if cap(b.frames) <= 2*maxBurst {
		b.frames = b.frames[:0]
		bursts.Put(b)
	}
	return err
}

// bye says that nothing more comes (RFC 6455 §5.5.1).
func (w *webSocket) bye() error {
	w.append(frame.Close, []byte{frame.CodeNormal >> 8, frame.CodeNormal & 0xff})
	return w.flush()
}

func (w *webSocket) close() { w.conn.Close() }
