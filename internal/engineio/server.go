package engineio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/internal/engineio/wire"
	"github.com/holdpost/holdpost/internal/frame"
)

// A Server holds the sessions and answers their requests.
type Server struct {
	config    Config
	limits    *frame.Limits
	deflated  *frame.Limits // of a WebSocket with compression
	polling   bool
	websocket bool
	streams   bool     // WebTransport
	upgrades  []string // what polling sessions are told

	shutdownRate atomic.Int64
	uncompressed atomic.Bool // nothing is compressed for now

	wheel wheel
	corks corks
	tasks tasks

	mu       sync.RWMutex
	sessions map[string]*Session
	lingers  int           // sessions that ended and have a connection yet
	untold   int           // sessions whose handler has not been told of their end
	draining bool          // no new sessions
	empty    chan struct{} // closed when the last session and its connection are gone while draining
}

// New returns a server. It starts nothing until there is a session.
func New(c Config) *Server {
	c = c.withDefaults()
	srv := &Server{
		config:    c,
		polling:   slices.Contains(c.Transports, Polling),
		websocket: slices.Contains(c.Transports, WebSocket),
		streams:   slices.Contains(c.Transports, WebTransport),
		sessions:  make(map[string]*Session),
		empty:     make(chan struct{}),
	}
	srv.limits, srv.deflated = c.frameLimits()
	srv.shutdownRate.Store(int64(c.ShutdownRate))
	if srv.websocket && !c.NoUpgrades {
		srv.upgrades = append(srv.upgrades, WebSocket)
	}
	if srv.streams && !c.NoUpgrades {
		srv.upgrades = append(srv.upgrades, WebTransport)
	}
	srv.wheel.base = time.Now()
	srv.wheel.length = tickLength(&srv.config)
	srv.wheel.quit = make(chan struct{})
	srv.corks.quit = srv.wheel.quit
	srv.corks.tasks = &srv.tasks
	return srv
}

// ServeHTTP answers one request of the protocol; anything outside of [Config].Path is not found.
func (srv *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := r.URL.Path; p != srv.config.Path && p != strings.TrimSuffix(srv.config.Path, "/") {
		http.NotFound(w, r)
		return
	}
	if r.Method == http.MethodConnect && srv.serveWebTransport(w, r) {
		return
	}
	s, no := srv.admit(r)
	switch {
	case no != nil:
		srv.refuse(w, r, no)
	case isUpgrade(r):
		srv.serveWebSocket(w, r, s)
	case s == nil:
		srv.openPolling(w, r)
	case r.Method == http.MethodGet:
		s.serveGet(w, r)
	default:
		s.servePost(w, r)
	}
}

// openPolling begins a session whose first response is this one.
func (srv *Server) openPolling(w http.ResponseWriter, r *http.Request) {
	s := srv.newSession(r)
	s.firstStamp = hashStamp(r)
	s.enqueueOpen(srv.upgrades)
	if !srv.begin(s) {
		srv.refuse(w, r, unavailable)
		return
	}
	if c := srv.config.Cookie; c != nil {
		cookie := *c
		cookie.Value = s.id
		http.SetCookie(w, &cookie)
	}
	s.serveGet(w, r)
}

func (srv *Server) newSession(r *http.Request) *Session {
	uri := r.RequestURI
	connect := r.Method == http.MethodConnect // a WebTransport session, whose request has the authority there
	if uri == "" || connect {
		uri = r.URL.RequestURI()
	}
	q := parseQuery(r.URL.RawQuery)
	return &Session{
		server: srv,
		id:     newID(),
		header: srv.config.keep(r.Header),
		remote: r.RemoteAddr,
		uri:    uri,
		opened: time.Now(),
		secure: r.TLS != nil,
		v3:     q.v3() && !connect,
		base64: q.b64,
	}
}

// newID returns 120 random bits in 20 characters.
func newID() string {
	var b [15]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// enqueueOpen queues the open packet, which comes before all others.
func (s *Session) enqueueOpen(upgrades []string) {
	c := &s.server.config
	packet := wire.AppendOpen(make([]byte, frame.MaxHeader, frame.MaxHeader+160), &wire.Handshake{
		SID: s.id, Upgrades: upgrades, PingInterval: max(0, c.PingInterval), PingTimeout: c.PingTimeout, MaxPayload: c.MaxPayload,
	})
	m := finish(packet, frame.Text)
	s.enqueueLocked(m.Len(), m)
}

// begin registers the session and introduces it to the application. It reports false if there is no room for it.
func (srv *Server) begin(s *Session) bool {
	s.recv.Lock()
	srv.mu.Lock()
	if srv.draining || srv.config.MaxSessions > 0 && len(srv.sessions) >= srv.config.MaxSessions {
		srv.mu.Unlock()
		s.recv.Unlock()
		return false
	}
	srv.sessions[s.id] = s
	srv.untold++
	srv.mu.Unlock()
	s.mu.Lock()
	s.startBeatLocked()
	s.scheduleLocked()
	s.mu.Unlock()
	s.handler = srv.config.Open(s)
	s.recv.Unlock()
	s.finish()
	return true
}

// forget is the end of a session; hungUp follows if its connection lingers.
func (srv *Server) forget(s *Session, lingers bool) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.sessions[s.id] != s {
		return
	}
	delete(srv.sessions, s.id)
	if lingers {
		srv.lingers++
	}
	srv.checkEmptyLocked()
}

func (srv *Server) hungUp() {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.lingers--
	srv.checkEmptyLocked()
}

func (srv *Server) told() {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.untold--
	srv.checkEmptyLocked()
}

func (srv *Server) checkEmptyLocked() {
	if !srv.draining || len(srv.sessions)+srv.lingers+srv.untold > 0 {
		return
	}
	select {
	case <-srv.empty:
	default:
		close(srv.empty)
	}
}

func (srv *Server) session(id string) *Session {
	srv.mu.RLock()
	defer srv.mu.RUnlock()
	return srv.sessions[id]
}

// Len returns how many sessions there are.
func (srv *Server) Len() int {
	srv.mu.RLock()
	defer srv.mu.RUnlock()
	return len(srv.sessions)
}

// Sessions yields the sessions that there are now.
func (srv *Server) Sessions() iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for _, s := range srv.snapshot() {
			if !yield(s) {
				return
			}
		}
	}
}

func (srv *Server) snapshot() []*Session {
	srv.mu.RLock()
	defer srv.mu.RUnlock()
	all := make([]*Session, 0, len(srv.sessions))
	for _, s := range srv.sessions {
		all = append(all, s)
	}
	return all
}

// Shutdown refuses new sessions, closes those that there are as [Session.Close] does, and waits for their peers. When ctx is
// done first it aborts the rest and returns the context's error. It ends with [Server.Close].
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.drain()
	srv.closeAll(ctx)
	var err error
	select {
	case <-srv.empty:
	case <-ctx.Done():
		err = ctx.Err()
	}
	srv.Close()
	return err
}

// SetCompression stops compressing, whatever the configuration says, or ends that.
func (srv *Server) SetCompression(on bool) { srv.uncompressed.Store(!on) }

// SetShutdownRate replaces Config.ShutdownRate, for the next Shutdown.
func (srv *Server) SetShutdownRate(perSecond int) { srv.shutdownRate.Store(int64(perSecond)) }

// Close closes all sessions and their connections at once and waits for the server's goroutines, so a [Handler] must not
// call it. The server answers 503 from then on.
func (srv *Server) Close() error {
	srv.drain()
	for _, s := range srv.snapshot() {
		s.Abort(ReasonShutdown)
	}
	srv.wheel.stop()
	srv.wheel.group.Wait()
	for _, s := range srv.wheel.drain() {
		s.mu.Lock()
		ws := s.ws
		s.mu.Unlock()
		if ws != nil {
			ws.link.close()
		}
	}
	srv.tasks.close()
	srv.tasks.wait()
	<-srv.empty // handlers may be told of the end by whoever kept them busy
	return nil
}

// closeAll closes the sessions at the configured rate, or faster if they would not be through in half of ctx's time.
func (srv *Server) closeAll(ctx context.Context) {
	all := srv.snapshot()
	rate := int(srv.shutdownRate.Load())
	if end, ok := ctx.Deadline(); ok && rate > 0 {
		rate = max(rate, int(float64(2*len(all))/max(time.Until(end).Seconds(), 1)))
	}
	batch := max(1, rate/shutdownBeats)
	beat := time.NewTicker(time.Second * time.Duration(batch) / time.Duration(max(1, rate)))
	defer beat.Stop()
	for i, s := range all {
		if rate > 0 && i > 0 && i%batch == 0 {
			select {
			case <-beat.C:
			case <-ctx.Done(): // the rest is about to be aborted
				return
			}
		}
		s.Close(ReasonShutdown)
	}
}

// Shed aborts, with [ReasonSlowPeer], the sessions that have most queued until so many bytes are free, or nothing is queued any
// more. It returns how many they were.
func (srv *Server) Shed(bytes int) (n int) {
	type load struct {
		session *Session
		bytes   int
	}
	var loads []load
	for _, s := range srv.snapshot() {
		if b := s.Queued(); b > 0 {
			loads = append(loads, load{s, b})
		}
	}
	slices.SortFunc(loads, func(a, b load) int { return b.bytes - a.bytes })
	for _, l := range loads {
		if bytes <= 0 {
			break
		}
		l.session.Abort(ReasonSlowPeer)
		bytes -= l.bytes
		n++
	}
	return n
}

func (srv *Server) drain() {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.draining = true
	srv.checkEmptyLocked()
}
