package engineio

import (
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

type state uint32

const (
	stateOpen    state = iota
	stateClosing       // takes no more messages, sends what it has
	stateEnded
)

// A Session is one client's connection, over whatever transports it comes. The zero value is of no use; a [Server] makes
// them.
type Session struct {
	// Static after construction.
	server  *Server
	id      string
	handler Handler
	header  []field
	remote  string
	uri     string
	opened  time.Time
	secure  bool
	v3      bool // speaks revision 3 of the protocol, that of Socket.IO v2
	base64  bool // and takes no binary payloads

	firstStamp uint64 // see stampOf; 0 when its client gives requests none

	// recv is held while the handler is called. Whoever finds it held at the end leaves Closed to the holder.
	recv sync.Mutex
	told bool // guarded by recv: Closed was called

	phase atomic.Uint32 // a state; written with mu held
	heard atomic.Bool   // something came since the last ping

	wheel wheelLinks // guarded by the wheel

	// mu guards the fields below. It is never held across a call to the handler, a write, or a callback.
	mu      sync.Mutex
	queue   *batch   // nil while empty
	pong    *Message // answers the newest ping of the WebSocket; goes before the queue
	bytes   int      // of messages accepted and not yet written
	packets int      // their number
	stuckAt uint64   // tick since when a writer waits for the peer, 0 if none does
	writing bool     // somebody is writing the queue out; nobody else may
	corked  bool     // something waits for Flush
	guarded bool     // the server's corks know the session

	ws        *socket // WebSocket or WebTransport, nil while polling
	candidate *socket // one that wants to take over
	poll      *poll   // the request that waits
	lastGet   uint64  // the stamp of the last poll
	lastPost  uint64  // and of the last POST that was taken; owned by the one that posting is about
	probed    bool    // the candidate has said so: polls are answered at once
	letGo     bool    // and one was
	posting   bool    // a request's body is being read
	lingers   bool    // ended, and the WebSocket's peer has yet to hang up
	lastWord  byte    // what a poll gets to hear at the end: close or noop
	awaiting  bool    // a ping is unanswered
	extended  bool    // and has had its extra time

	nextBeat  uint64 // tick of the next ping, or by which the last one must be answered; 0: no heartbeat
	lastPing  uint64 // tick
	upgradeBy uint64 // tick by which the candidate must have taken over; 0: no limit
	closeBy   uint64 // tick by which closing or hanging up must be done; 0: no limit
	messageBy uint64 // tick by which an incomplete WebSocket message must be complete; 0: none is incomplete
	alarmAt   uint64 // tick of the Deadline; 0: none
	alarm     func()

	asides *asides // nil if there are none
	reason Reason  // why it closes or closed
	cause  error
}

// asides are what few sessions have at a time.
type asides struct {
	drained  []func()
	unpinged []func(ok bool) // to be confirmed by the answer to a ping yet to be sent
	pinged   []func(ok bool) // by the answer to the ping that is out
	polled   chan struct{}   // closed when a poll comes; nil if nobody waits for one
}

// aside returns the asides to add something to.
func (s *Session) aside() *asides {
	if s.asides == nil {
		s.asides = new(asides)
	}
	return s.asides
}

// tidyLocked drops the asides once there are none.
func (s *Session) tidyLocked() {
	if a := s.asides; a != nil && a.polled == nil && len(a.drained)+len(a.unpinged)+len(a.pinged) == 0 {
		s.asides = nil
	}
}

// takeDrainedLocked returns who is to be told that nothing is queued, if that is so.
func (s *Session) takeDrainedLocked() []func() {
	if s.asides == nil || s.bytes > 0 {
		return nil
	}
	drained := s.asides.drained
	s.asides.drained = nil
	s.tidyLocked()
	return drained
}

// ID returns the session's id. It is a secret between the client and the server: whoever knows it can be the client.
func (s *Session) ID() string { return s.id }

// RemoteAddr returns the address that the first request came from, as net/http has it.
func (s *Session) RemoteAddr() string { return s.remote }

// Header returns those headers of the first request that [Config].KeepHeaders names, in a new map.
func (s *Session) Header() http.Header {
	h := make(http.Header, len(s.header))
	for _, f := range s.header {
		h[f.name] = append(h[f.name], f.value)
	}
	return h
}

// URL returns the first request's URI, with its query.
func (s *Session) URL() string { return s.uri }

// Query returns the parameters of the first request, parsed anew by each call.
func (s *Session) Query() url.Values {
	u, err := url.ParseRequestURI(s.uri)
	if err != nil {
		return url.Values{}
	}
	return u.Query()
}

// Opened returns when the session was opened.
func (s *Session) Opened() time.Time { return s.opened }

// Revision returns the revision of the protocol that the client speaks: 4, or 3 with [Config].AllowEIO3.
func (s *Session) Revision() int {
	if s.v3 {
		return 3
	}
	return 4
}

// Secure reports whether the first request came over TLS.
func (s *Session) Secure() bool { return s.secure }

// Transport returns [Polling], [WebSocket] or [WebTransport], whichever is in use now.
func (s *Session) Transport() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ws == nil:
		return Polling
	case s.ws.stream != nil:
		return WebTransport
	}
	return WebSocket
}

// Queued returns how many bytes were accepted and are not yet written to the kernel or a poll's response.
func (s *Session) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// NotifyDrained calls f once: when nothing is queued, which may be at once, or when the session ends.
func (s *Session) NotifyDrained(f func()) {
	s.mu.Lock()
	if s.bytes == 0 || s.state() == stateEnded {
		s.mu.Unlock()
		f()
		return
	}
	a := s.aside()
	a.drained = append(a.drained, f)
	s.mu.Unlock()
}

// Deadline calls f after d unless it is called again before: there is one deadline per session, and d <= 0 clears it.
// An end of the session clears it too. It is exact to a tenth of a second, never early.
func (s *Session) Deadline(d time.Duration, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d <= 0 || s.state() == stateEnded {
		s.alarmAt, s.alarm = 0, nil
		return
	}
	s.alarmAt, s.alarm = s.server.wheel.after(d), f
	s.scheduleLocked()
}

func (s *Session) state() state { return state(s.phase.Load()) }

func (s *Session) setStateLocked(to state) { s.phase.Store(uint32(to)) }

// A field is a header that is kept. Few are, so a list is much smaller than a map.
type field struct{ name, value string }

// keep returns the headers that are kept of h.
func (c *Config) keep(h http.Header) []field {
	n := 0
	for _, name := range c.KeepHeaders {
		n += len(h[name])
	}
	if n == 0 {
		return nil
	}
	kept := make([]field, 0, n)
	for _, name := range c.KeepHeaders {
		for _, value := range h[name] {
			kept = append(kept, field{name, value})
		}
	}
	return kept
}
