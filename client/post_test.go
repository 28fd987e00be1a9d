package client_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/internal/peertest"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

// A post is a server of Holdpost that recovers connections and holds events, with a real store. Its clock is the real one.
type post struct {
	t     *testing.T
	srv   *holdpost.Server
	main  *holdpost.Namespace
	store *local.Store
	host  *peertest.Host

	// Every connection of the clients made next is cut after some bytes, up to about this number of them; 0: none is. Some of what
	// they carry is late, and some of them come twice.
	cutAfter int
	group    sync.WaitGroup // of what connections that came twice leave behind
	cuts     atomic.Int64
	delays   atomic.Int64
	twice    atomic.Int64
}

func newPost(t *testing.T) *post {
	log := slog.New(slog.DiscardHandler)
	p := &post{t: t}
	open := func(name string) *local.Store {
		s, err := local.Open(background, local.Config{Engine: embedded.Config{
			Dir: filepath.Join(t.TempDir(), name), Logger: log, Reserve: 1 << 20, Level: embedded.LevelMemory,
		}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	p.store = open("kept")
	journals := open("recovery")
	journal := delivery.NewJournal(journals.Broker, log)
	names := holdpost.NewKey[string]("name")
	identity := func(s *holdpost.Socket) string {
		return names.LoadOrSet(s, func() string {
			var auth struct{ Client string }
			json.Unmarshal(s.Handshake().Auth, &auth)
			return auth.Client
		})
	}
	p.srv = holdpost.NewServer(&holdpost.Config{Logger: log, Recovery: &holdpost.Recovery{Journal: journal, Identity: identity}})
	p.main = p.srv.Of("/")
	delivery.New(delivery.Config{Broker: p.store.Broker, Identity: identity, Logger: log}).Handle(p.main)
	p.host = peertest.New(t, p.srv)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(background, 5*time.Second)
		defer cancel()
		p.srv.Shutdown(ctx)
		p.group.Wait()
		p.store.Close()
		journals.Broker.Close()
		journal.Close()
		journals.Close()
	})
	return p
}

// client returns a client that is closed with the test. It is quick to come back.
func (p *post) client(c client.Config) *client.Client {
	known := new(atomic.Bool)
	c.Dial = p.dialer(p.cutAfter, known)
	c.ReconnectDelay, c.ReconnectMaxDelay = time.Millisecond, 10*time.Millisecond
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	cl := client.New("http://test", &c)
	cl.Of("/").OnConnect(func(context.Context) { known.Store(true) })
	p.t.Cleanup(cl.Close)
	return cl
}

// socket returns a connected socket in the main namespace, of somebody or nobody.
func (p *post) socket(name string) *client.Socket {
	p.t.Helper()
	s := p.client(client.Config{Auth: map[string]string{"client": name}}).Of("/")
	p.connect(s)
	return s
}

func (p *post) connect(s *client.Socket) {
	p.t.Helper()
	if err := s.Connect(soon(p.t)); err != nil {
		p.t.Fatal(err)
	}
}

// soon is a context that ends when a test has waited for too long.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(background, time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// dialer returns what makes connections that break. None comes twice before the client is known: the server would take it for another.
func (p *post) dialer(cutAfter int, known *atomic.Bool) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		conn, err := p.host.Dial()
		if err != nil || cutAfter == 0 {
			return conn, err
		}
		c := &doomed{Conn: conn, p: p, double: known.Load() && rand.IntN(10) == 0}
		c.left.Store(int64(300 + rand.IntN(cutAfter)))
		return c, nil
	}
}

// doomed is a connection that breaks in the middle of what it carries.
type doomed struct {
	net.Conn
	p    *post
	left atomic.Int64
	once sync.Once

	// Owned by who writes.
	double  bool // it is to come twice: another one says the same, once this one has said enough
	written []byte
}

func (c *doomed) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.late()
	return min(n, c.carry(n)), err
}

// poll matches a poll that waits for events: who repeats it takes what comes for the client.
var poll = regexp.MustCompile(`GET \S*sid=\S*polling`)

// late holds up one in fifty reads and writes.
func (c *doomed) late() {
	if rand.IntN(50) == 0 {
		c.p.delays.Add(1)
		time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
	}
}

// repeat opens a second connection that says what this one has said, as a client does that is not sure whether it was heard.
func (c *doomed) repeat() {
	other, err := c.p.host.Dial()
	if err != nil {
		return
	}
	c.p.twice.Add(1)
	c.p.group.Go(func() {
		defer other.Close()
		other.SetDeadline(time.Now().Add(time.Second))
		if _, err := other.Write(c.written); err == nil {
			io.Copy(io.Discard, other)
		}
	})
}

func (c *doomed) Write(b []byte) (int, error) {
	c.late()
	if c.double {
		if c.written = append(c.written, b...); len(c.written) > 400 { // a handshake and more
			c.double = false
			if !poll.Match(c.written) {
				c.repeat()
			}
		}
	}
	if n := c.carry(len(b)); n < len(b) {
		c.Conn.Write(b[:n])
		return n, net.ErrClosed
	}
	return c.Conn.Write(b)
}

// carry takes n bytes off what is left, and returns how many of them come through.
func (c *doomed) carry(n int) int {
	left := c.left.Add(int64(-n))
	if left >= 0 {
		return n
	}
	c.once.Do(func() {
		c.p.cuts.Add(1)
		c.Conn.Close()
	})
	return max(0, n+int(left))
}
