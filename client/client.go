package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/packet"
	"golang.org/x/sync/semaphore"
)

// Client is the address of one server, and a connection to it as long as one of its sockets wants one. Make one with [New].
type Client struct {
	// Static after construction.
	config   Config
	base     *url.URL // nil when invalid is not
	invalid  *DialError
	jar      http.CookieJar
	codec    codec
	limits   packet.Limits
	frames   *frame.Limits
	deflated *frame.Limits // of a WebSocket whose messages may be compressed

	work sync.WaitGroup // every goroutine of the client; added to with mu held and closed false

	mu        sync.Mutex // guards the fields below
	closed    bool
	sockets   map[string]*Socket // by namespace
	active    int                // sockets that want a connection
	life      *life              // nil while none does
	last      chan struct{}      // closed when the last life has ended; nil before the first
	link      *link              // nil while there is no session
	connected bool               // a session was opened once
}

// life is the time from the first socket that wants a connection to the last that does not any more.
type life struct {
	ctx   context.Context
	stop  context.CancelFunc
	after chan struct{} // closed when the life before has ended; nil for the first
	ended chan struct{}
}

// New returns a client of the server at a URL: "http://localhost:7300", with https, ws or wss as well. The URL has no path,
// which Config.Path is, and may have a query, which the server sees. New does no I/O; what is wrong with its arguments is
// returned by [Socket.Connect]. A nil Config means the defaults.
func New(serverURL string, c *Config) *Client {
	cl := &Client{config: c.withDefaults(), sockets: make(map[string]*Socket)}
	cl.base, cl.invalid = parseURL(serverURL, cl.config.Path)
	if cl.invalid == nil {
		cl.invalid = cl.config.check()
	}
	cl.codec = textCodec{}
	if cl.config.MessagePack {
		cl.codec = msgpackCodec{}
	}
	cl.limits = cl.config.limits()
	cl.frames, cl.deflated = frame.DefaultLimits(cl.config.MaxPayload), frame.DefaultLimits(cl.config.MaxPayload)
	cl.frames.Client, cl.deflated.Client, cl.deflated.Compressed = true, true, true
	cl.jar, _ = cookiejar.New(nil) // has no errors
	return cl
}

// web returns what makes requests. A session has its own: an idle WebSocket needs none.
func (c *Client) web() *http.Client {
	return &http.Client{
		Jar:           c.jar,
		CheckRedirect: c.checkRedirect,
		Transport: &http.Transport{
			Proxy:                  c.config.Proxy,
			DialContext:            c.config.Dial,
			TLSClientConfig:        c.config.TLS,
			Protocols:              http1, // which has Upgrade
			DisableCompression:     true,  // what comes is as large as it looks
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    2, // one polls, the other posts
		},
	}
}

var http1 = func() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}()

func parseURL(text, path string) (*url.URL, *DialError) {
	wrong := func(format string, a ...any) (*url.URL, *DialError) {
		return nil, &DialError{Code: codeConfig, Err: fmt.Errorf(format, a...)}
	}
	u, err := url.Parse(text)
	if err != nil {
		return wrong("%w", err)
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	default:
		return wrong("URL %q: a scheme of http, https, ws or wss is expected", u.Redacted())
	}
	if u.Host == "" {
		return wrong("URL %q has no host", u.Redacted())
	}
	if u.Path != "" && u.Path != "/" {
		return wrong("URL %q: its path belongs into Config.Path, the name of a namespace into Client.Of", u.Redacted())
	}
	u.Path, u.Fragment = "/"+strings.TrimPrefix(path, "/"), ""
	return u, nil
}

func (c *Config) check() *DialError {
	wrong := func(format string, a ...any) *DialError {
		return &DialError{Code: codeConfig, Err: fmt.Errorf(format, a...)}
	}
	for _, name := range c.Transports {
		if name != webSocketName && name != pollingName {
			return wrong("Config.Transports: %q is neither websocket nor polling", name)
		}
	}
	if c.WhenFull != whenFullRefuse && c.WhenFull != whenFullDropOldest {
		return wrong("Config.WhenFull: %q is neither refuse nor drop-oldest", c.WhenFull)
	}
	if c.ReconnectFactor < 1 {
		return wrong("Config.ReconnectFactor: %v is less than 1", c.ReconnectFactor)
	}
	return nil
}

// checkRedirect follows few redirects, and none that gives TLS up.
func (c *Client) checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > max(c.config.MaxRedirects, 0) || c.base.Scheme == "https" && r.URL.Scheme != "https" {
		return errRedirect
	}
	return nil
}

// address returns the URL that requests go to, for people.
func (c *Client) address() string {
	u := *c.base
	u.RawQuery = ""
	return u.Redacted()
}

// request returns a request of Engine.IO.
func (c *Client) request(ctx context.Context, method, transport, sid string, body io.Reader) *http.Request {
	u := *c.base
	query := u.Query()
	query.Set("EIO", "4")
	query.Set("transport", transport)
	if sid != "" {
		query.Set("sid", sid)
	}
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil { // of a URL that was parsed and a method that is valid
		panic(err)
	}
	for name, values := range c.config.Header {
		r.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		if http.CanonicalHeaderKey(name) == "Host" && len(values) > 0 {
			r.Host = values[0]
		}
	}
	return r
}

// Of returns the socket in a namespace: "/" or "" for the main one. It does no I/O, and returns the same socket for the same
// name.
func (c *Client) Of(namespace string) *Socket {
	if !strings.HasPrefix(namespace, "/") {
		namespace = "/" + namespace
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sockets[namespace]
	if s == nil {
		s = &Socket{client: c, namespace: namespace, retries: semaphore.NewWeighted(1)}
		c.sockets[namespace] = s
	}
	return s
}

// Transport returns the name of the transport in use: "websocket", "polling", or "" without a connection.
func (c *Client) Transport() string {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if l == nil {
		return ""
	}
	return l.transport()
}

// Close ends all sockets, as [Socket.Disconnect] does, closes the connection, and returns when no goroutine of the client runs
// any more. What was emitted before is written, unless the server does not take it within Config.WriteTimeout. It must not be
// called from a handler, for which it waits. Later calls return at once; a closed client does not connect again.
func (c *Client) Close() {
	for _, s := range c.all() {
		s.finish(&holdpost.DisconnectError{Reason: holdpost.ReasonClientDisconnect}, true)
	}
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.work.Wait()
}

func (c *Client) all() []*Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*Socket, 0, len(c.sockets))
	for _, s := range c.sockets {
		all = append(all, s)
	}
	return all
}

// spawn runs f on a goroutine that Close waits for. On a closed client it does nothing, and returns false.
func (c *Client) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.work.Go(f)
	}
	return !c.closed
}

// aside runs f, which needs a large stack, for the goroutine that reads a session, which is to keep a small one.
func (c *Client) aside(f func()) {
	done := make(chan struct{})
	if c.spawn(func() { defer close(done); f() }) {
		<-done
	}
}

// activate counts a socket that wants a connection, and returns the session if there is one already.
func (c *Client) activate() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active++
	if c.closed {
		return nil, ErrClosed
	}
	if c.life == nil {
		v := &life{after: c.last, ended: make(chan struct{})}
		v.ctx, v.stop = context.WithCancel(context.Background())
		c.life, c.last = v, v.ended
		c.work.Go(func() { c.live(v) })
	}
	return c.link, nil
}

// deactivate counts a socket that wants no connection any more. The last one ends it, behind what is still to be written.
func (c *Client) deactivate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active--; c.active > 0 || c.life == nil {
		return
	}
	c.life.stop()
	c.life = nil
	if l := c.link; l != nil && l.out.Push(outgoing{last: true}) {
		c.work.Go(func() { l.out.Run(l.write) })
	}
	c.link = nil
}
