package holdpost

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost/internal/engineio"
	"github.com/holdpost/holdpost/internal/packet"
)

// Server is a Socket.IO server. It is an [http.Handler]; mount it at Config.Path in a server of your own:
//
//	http.Handle("/socket.io/", srv)
//
// All methods may be called from any goroutine.
type Server struct {
	// Static after construction.
	config Config
	limits packet.Limits
	// limitsV2 are those of clients of Socket.IO v2, whose auth object stands behind the namespace's name.
	limitsV2 packet.Limits
	codec    codec
	origins  *originList
	files    clientFiles
	engine   *engineio.Server

	acks     atomic.Int64
	handlers running // goroutines that run handlers, and those of recovery

	// For recovery.
	started time.Time
	saver   saver
	replays slots

	mu          sync.RWMutex // guards the fields below
	namespaces  map[string]*Namespace
	parents     []*Namespace // replaced as a whole
	dynamic     int          // how many of the namespaces are
	swept       time.Time    // when those were looked through
	onNamespace []func(*Namespace)
}

// NewServer returns a server. A nil Config means the defaults. It does no I/O and starts no goroutine. It panics with what
// [Config.Validate] says.
func NewServer(c *Config) *Server {
	if err := c.Validate(); err != nil {
		panic(err)
	}
	srv := &Server{config: c.withDefaults(), namespaces: make(map[string]*Namespace), started: time.Now(), replays: newSlots()}
	srv.limits = srv.config.limits()
	srv.limitsV2 = srv.limits
	srv.limitsV2.Namespace += srv.limits.AuthBytes
	srv.codec = textCodec{}
	if srv.config.MessagePack {
		srv.codec = msgpackCodec{maxConnect: srv.limits.AuthBytes + srv.limits.Namespace + 1<<10}
	}
	srv.origins = newOriginList(srv.config.Origins)
	srv.files = newClientFiles(srv.config.ClientFiles)
	srv.engine = engineio.New(srv.config.engine(srv.origins, srv.open))
	srv.Of("/")
	return srv
}

// ServeHTTP serves Socket.IO's requests: polls, WebSocket handshakes, CORS preflights, the client's files. Whatever stands
// around it may refuse a request itself, and set headers of the response, also of a WebSocket handshake's.
func (srv *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if srv.origins.cors(w, r) {
		return
	}
	if name, below := strings.CutPrefix(r.URL.Path, srv.config.Path); below && name != "" && srv.files.serve(w, r, name) {
		return
	}
	srv.engine.ServeHTTP(w, r)
}

// Of returns the namespace of this name and makes it if need be. The slash in front may be left out; "" is the main
// namespace "/". It panics when the name is longer than Config.MaxNameBytes, not UTF-8, or holds a comma or control
// characters: no client could connect to it.
func (srv *Server) Of(name string) *Namespace {
	name = normalName(name)
	srv.mu.RLock()
	ns := srv.namespaces[name]
	stays := ns != nil && !ns.dynamic
	srv.mu.RUnlock()
	if stays {
		return ns
	}
	if !validName(name, srv.config.MaxNameBytes) || slices.Contains([]byte(name), ',') {
		panic(fmt.Sprintf("holdpost: invalid namespace %q", name))
	}
	srv.mu.Lock()
	if ns = srv.namespaces[name]; ns != nil {
		srv.keepLocked(ns)
		srv.mu.Unlock()
		return ns
	}
	ns = srv.makeLocked(srv.parentOfLocked(name), name)
	hooks := srv.onNamespace
	srv.mu.Unlock()
	ns.introduce(hooks)
	return ns
}

// keepLocked makes a namespace stay that a client's CONNECT has made. srv.mu is held.
func (srv *Server) keepLocked(ns *Namespace) {
	if ns.dynamic {
		ns.dynamic = false
		srv.dynamic--
	}
}

// nextAck returns a new ack id. Ids are below 2^31: a client for Java reads them as int.
func (srv *Server) nextAck() int64 { return srv.acks.Add(1) & (1<<31 - 1) }

// Namespaces yields the namespaces that exist now, in the order of their names.
func (srv *Server) Namespaces() iter.Seq[*Namespace] {
	srv.mu.RLock()
	all := slices.SortedFunc(maps.Values(srv.namespaces), func(a, b *Namespace) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	srv.mu.RUnlock()
	return slices.Values(all)
}

// Connections returns the number of connections open on this server.
func (srv *Server) Connections() int { return srv.engine.Len() }

// Shed closes the connections whose clients have most to take yet, with [ReasonSlowPeer], until so many bytes are free or
// nothing waits any more: for a program that runs out of memory. It returns how many they were. Their clients come back.
func (srv *Server) Shed(bytes int) int { return srv.engine.Shed(bytes) }

// Shutdown ends the server: new connections are refused, the present ones closed with [ReasonServerShutdown] so that
// their clients reconnect, at Config.ShutdownRate, and the handlers waited for. It returns the context's cause when that ends first; handlers go
// on then. Calling it again waits again.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.saver.stop()
	if err := srv.engine.Shutdown(ctx); err != nil {
		return err
	}
	select {
	case <-srv.handlers.none():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shutdown: wait for handlers: %w", context.Cause(ctx))
	}
}

// SetCompression stops compressing messages and responses to polls, whatever the configuration says, or ends that: compressors take memory
// that a program may need otherwise. It may be called at any time.
func (srv *Server) SetCompression(on bool) { srv.engine.SetCompression(on) }

// SetShutdownRate replaces Config.ShutdownRate, for the next [Server.Shutdown]. Zero and less are all at once. It may be called at any time.
func (srv *Server) SetShutdownRate(perSecond int) { srv.engine.SetShutdownRate(perSecond) }

// Close ends the server at once, without waiting for handlers.
func (srv *Server) Close() error {
	srv.saver.stop()
	return srv.engine.Close()
}

// running counts goroutines. Unlike a WaitGroup it may grow from zero while somebody waits.
type running struct {
	mu   sync.Mutex // guards the fields below
	n    int
	zero chan struct{} // to be closed at zero; nil if nobody waits
}

func (r *running) begin() {
	r.mu.Lock()
	r.n++
	r.mu.Unlock()
}

func (r *running) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n--; r.n == 0 && r.zero != nil {
		close(r.zero)
		r.zero = nil
	}
}

// none returns a channel that is closed when none is running.
func (r *running) none() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	zero := r.zero
	if zero == nil {
		zero = make(chan struct{})
	}
	if r.n == 0 {
		close(zero)
	} else {
		r.zero = zero
	}
	return zero
}
