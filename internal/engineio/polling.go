package engineio

import (
	"errors"
	"hash/maphash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdpost/holdpost/internal/engineio/wire"
)

var (
	errOverlap     = errors.New("two requests at once")
	errRepeated    = errors.New("poll repeated: what the first one was answered is lost")
	errAborted     = errors.New("request aborted")
	errContentType = errors.New("request body is not text")
	errEncoding    = errors.New("request body is encoded")
	errTooLarge    = errors.New("request body too large")
	errEnded       = errors.New("session ended while the body came")
)

// A poll is a GET that waits for something to answer.
type poll struct {
	wake   chan struct{} // holds one
	behind bool          // it came when a WebSocket was about to take over
	held   bool          // and had said so, with no poll let go for it yet: the upgrade may have been sent before this one
}

// wakeLocked makes the waiting poll look again.
func (s *Session) wakeLocked() {
	if s.poll != nil {
		select {
		case s.poll.wake <- struct{}{}:
		default:
		}
	}
}

// turnedDownLocked returns why a request can't be served now, nil when it can. busy tells that another one of its kind is being served.
func (s *Session) turnedDownLocked(busy bool) *Refusal {
	switch {
	case s.state() == stateEnded:
		return unknownSession
	case s.ws != nil:
		return badRequest.because(errTransport)
	case busy:
		return badRequest.because(errOverlap)
	}
	return nil
}

// turnDown refuses a request, and ends the session if something is lost or out of order by it.
func (s *Session) turnDown(w http.ResponseWriter, r *http.Request, no *Refusal) {
	if no.Err == errOverlap || no.Err == errRepeated {
		s.end(ReasonTransportError, no.Err, nil)
	}
	s.server.refuse(w, r, no)
}

// stampOf returns what tells a request from the others of its kind and session, 0 for nothing: its parameter t. Browsers repeat a
// request, a POST too, when the connection that they had kept breaks before the answer comes; and the official client, among others,
// gives each request a t of its own, the first one too. If that is still the same it is the application's.
func (s *Session) stampOf(r *http.Request) uint64 {
	if s.firstStamp == 0 {
		return 0
	}
	stamp := hashStamp(r)
	if stamp == s.firstStamp {
		return 0
	}
	return stamp
}

// hashStamp returns 0 for a t that is a time: two requests may have that in common.
func hashStamp(r *http.Request) uint64 {
	t := parseQuery(r.URL.RawQuery).t
	if strings.Trim(t, "0123456789.") == "" {
		return 0
	}
	return maphash.String(stampSeed, t)
}

var stampSeed = maphash.MakeSeed()

// An answer is what a poll gets.
type answer struct {
	messages [maxPollPackets]*Message
	n        int
	size     int
	last     byte // a packet without data to end with, 0 for none
	late     bool // the poll was overtaken by an upgrade
	held     bool // the poll holds writing
}

// serveGet answers a poll: with all that is queued, up to a limit, as soon as there is something.
func (s *Session) serveGet(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.overdueLocked() {
		s.mu.Unlock()
		s.visit() // ahead of the wheel
		s.mu.Lock()
	}
	stamp := s.stampOf(r)
	no := s.turnedDownLocked(s.poll != nil)
	if no == nil && stamp != 0 && stamp == s.lastGet {
		no = badRequest.because(errRepeated)
	}
	if no != nil {
		s.mu.Unlock()
		s.turnDown(w, r, no)
		return
	}
	s.lastGet = stamp
	p := &poll{wake: make(chan struct{}, 1), behind: s.candidate != nil, held: s.probed && !s.letGo}
	s.poll = p
	s.polledLocked()
	var overtaken <-chan time.Time
	if p.held {
		overtaken = time.After(overtakeTime)
	}
	var a answer
	for waited := false; !s.answerLocked(p, &a); {
		s.mu.Unlock()
		if !waited { // a read timeout of the server would end the wait
			waited = true
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		}
		select {
		case <-p.wake:
		case <-overtaken:
			p.held = false
		case <-r.Context().Done():
			s.end(ReasonTransportError, errAborted, nil)
		}
		s.mu.Lock()
	}
	s.poll = nil // before the response is out, since the next poll may come right behind it
	s.mu.Unlock()
	if a.late {
		s.server.refuse(w, r, badRequest.because(errTransport))
		return
	}
	s.respond(w, r, &a)
}

// answerLocked fills in what there is to say to the waiting poll now, if anything.
func (s *Session) answerLocked(p *poll, a *answer) bool {
	switch {
	case s.state() == stateEnded:
		a.last = s.lastWord
		return true
	case s.ws != nil && p.behind:
		a.late = true
		return true
	case s.ws != nil:
		a.last = byte(wire.Noop)
		return true
	case s.writing:
		return false
	case s.queue != nil:
		a.messages, a.n = [maxPollPackets]*Message{}, 0
		for _, m := range s.queue.take(a.messages[:0], maxPollPackets, s.server.config.MaxPayload) {
			a.size += m.Len()
			a.n++
		}
		if s.queue.len() == 0 {
			s.queue.free()
			s.queue, s.corked = nil, false
		}
		if s.state() == stateClosing && s.queue == nil && a.n < maxPollPackets {
			a.last = byte(wire.Close)
		}
	case s.state() == stateClosing:
		a.last = byte(wire.Close)
	case s.probed && !p.held:
		s.letGo = true
		a.last = byte(wire.Noop)
	default:
		return false
	}
	a.held = true
	s.writing = true
	return true
}

// respond writes a poll's response and lets the next writer go on.
func (s *Session) respond(w http.ResponseWriter, r *http.Request, a *answer) {
	buf := bodies.Get().(*[]byte)
	body, contentType := s.appendPayload((*buf)[:0], a)
	h := w.Header()
	out := body
	if e := s.responseEncoding(r, a, len(body)); e != nil {
		zipped := bodies.Get().(*[]byte)
		defer freeBody(zipped)
		out = e.append((*zipped)[:0], body)
		*zipped = out
		h["Content-Encoding"] = []string{e.name}
	}
	h["Content-Type"] = []string{contentType}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{strconv.Itoa(len(out))}
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(s.server.config.WriteTimeout))
	_, err := w.Write(out)
	if ferr := rc.Flush(); err == nil && !errors.Is(ferr, http.ErrNotSupported) {
		err = ferr
	}
	_ = rc.SetWriteDeadline(time.Time{})
	*buf = body
	freeBody(buf)
	if a.held {
		s.responded(a, err)
	}
}

const (
	texts  = "text/plain; charset=UTF-8"
	octets = "application/octet-stream"
)

// appendPayload appends the body of a response.
func (s *Session) appendPayload(body []byte, a *answer) (_ []byte, contentType string) {
	if s.v3 {
		return s.appendPayloadV3(body, a)
	}
	for i, m := range a.messages[:a.n] {
		if i > 0 {
			body = append(body, wire.Separator)
		}
		body = m.appendPacket(body)
	}
	if a.last != 0 {
		if len(body) > 0 {
			body = append(body, wire.Separator)
		}
		body = append(body, a.last)
	}
	return body, texts
}

// appendPayloadV3 makes a binary body if there is a binary message in it, and the client takes such.
func (s *Session) appendPayloadV3(body []byte, a *answer) (_ []byte, contentType string) {
	messages := a.messages[:a.n]
	if a.last != 0 {
		messages = append(messages, packetMessage(string(a.last)))
	}
	binary := !s.base64 && slices.ContainsFunc(messages, func(m *Message) bool { return m.binary })
	for _, m := range messages {
		body = m.appendPacketV3(body, binary)
	}
	if binary {
		return body, octets
	}
	return body, texts
}

// responseEncoding returns how a response of size bytes is to be compressed, nil if it is not: it is too small, all that is
// in it was sent uncompressed on purpose, or nothing is for now.
func (s *Session) responseEncoding(r *http.Request, a *answer, size int) *encoding {
	from := s.server.config.CompressFrom
	if from < 0 || size < from || s.server.uncompressed.Load() || !slices.ContainsFunc(a.messages[:a.n], func(m *Message) bool { return !m.plain }) {
		return nil
	}
	return acceptEncoding(r.Header)
}

func (s *Session) responded(a *answer, err error) {
	s.mu.Lock()
	s.writtenLocked(a.size, a.n)
	s.writing = false
	if err != nil && s.ws == nil {
		s.mu.Unlock()
		s.end(ReasonTransportError, err, nil)
		return
	}
	drained := s.takeDrainedLocked()
	if s.state() == stateClosing && a.last == byte(wire.Close) {
		reason := s.reason
		s.mu.Unlock()
		s.end(reason, nil, nil)
	} else if s.ws == nil {
		s.wakeLocked() // a poll may have come meanwhile
		s.mu.Unlock()
	} else if s.queue == nil && s.pong == nil {
		s.writing = true
		s.wroteAll() // a close may have waited for this
	} else {
		s.flushLocked()
	}
	for _, f := range drained {
		f()
	}
}

// servePost takes the packets that a client sends.
func (s *Session) servePost(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if no := s.turnedDownLocked(s.posting); no != nil {
		s.mu.Unlock()
		s.turnDown(w, r, no)
		return
	}
	s.posting = true
	s.mu.Unlock()

	buf := bodies.Get().(*[]byte)
	err := s.readBody(w, r, buf)
	stamp := s.stampOf(r)
	if repeated := stamp != 0 && stamp == s.lastPost; err == nil && !repeated {
		err = s.deliver(*buf, r.Header.Get("Content-Type") == octets)
	}
	if err == nil {
		s.lastPost = stamp
	}
	freeBody(buf)
	s.mu.Lock()
	s.posting = false // before the response is out, since the next request may come right behind it
	s.mu.Unlock()

	h := w.Header()
	switch err {
	case nil, errClosePacket:
		h["Content-Type"] = []string{"text/html"}
		h["Content-Length"] = []string{"2"}
		io.WriteString(w, "ok")
	default:
		status := http.StatusBadRequest
		switch err {
		case errTooLarge: // the session goes on
			status = http.StatusRequestEntityTooLarge
		case errEncoding:
			status = http.StatusUnsupportedMediaType
		}
		h["Connection"] = []string{"close"}
		h["Content-Length"] = []string{"0"}
		w.WriteHeader(status)
	}
}

// readBody reads the request's body, counting what arrives: a declared length is used to refuse, never to allocate.
func (s *Session) readBody(w http.ResponseWriter, r *http.Request, buf *[]byte) error {
	c := &s.server.config
	if !s.v3 && r.Header.Get("Content-Type") == octets {
		s.end(ReasonTransportError, errContentType, nil)
		return errContentType
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		s.end(ReasonTransportError, errEncoding, nil)
		return errEncoding
	}
	if r.ContentLength > int64(c.MaxPayload) {
		return errTooLarge
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(c.BodyTimeout))
	body := (*buf)[:0]
	defer func() { *buf = body }()
	for {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		n, err := r.Body.Read(body[len(body):min(cap(body), c.MaxPayload+1)])
		body = body[:len(body)+n]
		if len(body) > c.MaxPayload {
			return errTooLarge
		}
		if err == io.EOF {
			_ = rc.SetReadDeadline(time.Time{})
			return nil
		}
		if err != nil {
			s.end(ReasonTransportError, err, nil)
			return err
		}
	}
}

// deliver hands the packets of a body to the handler, as far as they are good.
func (s *Session) deliver(body []byte, binary bool) (err error) {
	s.recv.Lock()
	if s.state() == stateEnded {
		s.recv.Unlock()
		s.finish()
		return errEnded
	}
	s.heard.Store(true)
	packets := wire.NewPayload(body, s.server.config.MaxPacketsPerPayload)
	if s.v3 {
		packets = wire.NewPayloadV3(body, binary, s.server.config.MaxPacketsPerPayload)
	}
	took := false
	for s.state() != stateEnded {
		p, ok, perr := packets.Next()
		if perr != nil {
			err = &parseError{perr}
			break
		}
		if !ok {
			break
		}
		took = took || p.Type == wire.Message
		if err = s.packet(p); err != nil {
			break
		}
	}
	if took {
		if work := s.handler.Batch(); work != nil {
			go work.Run() // the response does not wait for it
		}
	}
	s.recv.Unlock()
	if err != nil {
		if err == errClosePacket {
			s.awaitPoll()
			s.mu.Lock()
			s.lastWord = byte(wire.Noop)
			s.mu.Unlock()
		}
		s.fail(err)
	}
	s.finish()
	return err
}

const maxPooledBody = 64 << 10

var bodies = sync.Pool{New: func() any {
	b := make([]byte, 0, 4<<10)
	return &b
}}

func freeBody(b *[]byte) {
	if cap(*b) <= maxPooledBody {
		bodies.Put(b)
	}
}
