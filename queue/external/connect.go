package external

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdpost/holdpost/queue/internal/guard"
)

const (
	connectTimeout = 5 * time.Second
	newcomer       = 4 * time.Second  // how long JetStream need not answer over a connection that was moved
	startPatience  = 10 * time.Second // with a JetStream that does not answer, which may be without a leader

	// oldest is the first version that has what package queue uses: batches that are stored together or not at all.
	oldestMajor, oldestMinor = 2, 12
)

// Connect opens a connection to one of the servers, which goes on by itself with another one when that is gone. What can't be sent
// at once is refused, not kept. The caller closes it.
func (e *Engine) Connect(name string) (*nats.Conn, error) {
	select {
	case <-e.stop:
		return nil, errClosed
	default:
		return e.connect(name)
	}
}

func (e *Engine) connect(name string, more ...nats.Option) (*nats.Conn, error) {
	c := e.config
	options := append([]nats.Option{
		nats.Name(name), nats.Timeout(connectTimeout), nats.FlusherTimeout(connectTimeout),
		nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectBufSize(-1), nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2), // a server that is cut off says nothing
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			if s != nil {
				e.log.Warn("NATS", "connection", name, "subject", s.Subject, "cause", err)
				return
			}
			if e.complain(err) {
				e.log.Warn("NATS", "connection", name, "cause", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { e.complain(err) }),
		nats.ReconnectHandler(func(*nats.Conn) { e.complaint.Store(nil) }),
	}, more...)
	switch {
	case c.Credentials != "":
		options = append(options, nats.UserCredentials(c.Credentials))
	case c.User != "":
		options = append(options, nats.UserInfo(c.User, c.Password))
	case c.Password != "":
		options = append(options, nats.Token(c.Password))
	}
	if c.TLS != nil {
		options = append(options, nats.Secure(c.TLS))
	}
	urls := strings.Join(c.URLs, ",")
	nc, err := nats.Connect(urls, options...)
	if errors.Is(err, nats.ErrAuthorization) {
		err = fmt.Errorf("the servers do not let this user in: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect %q to %s: %w", name, urls, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	e.mu.Lock()
	e.links = append(e.links, &link{nc, js, time.Now()})
	e.mu.Unlock()
	return nc, nil
}

// report has the engine's own connection tell where it is, for all of them.
func (e *Engine) report() []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				e.log.Warn("connection to NATS lost", "cause", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			e.complaint.Store(nil)
			e.log.Info("connected to NATS again", "server", nc.ConnectedUrlRedacted())
		}),
	}
}

// complaint is what servers said of all that is asked over a connection, or why there is none.
type complaint struct {
	err error
	at  time.Time
}

// complain takes in a complaint, and tells whether it is another one than the last. What this user may not do is answered in no other way.
func (e *Engine) complain(err error) (news bool) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		err = fmt.Errorf("%w: %w", ErrUnsuited, err)
		e.denied(err)
	}
	old := e.complaint.Swap(&complaint{err, time.Now()})
	return old == nil || old.err.Error() != err.Error()
}

// link is a connection.
type link struct {
	*nats.Conn
	js       jetstream.JetStream
	answered time.Time // when JetStream last answered over it, or there was no connection; owned by the loop that looks
}

// look looks whether JetStream answers over a connection. If it has not for long, another server may be better: this one may be cut off
// from the others, or have forgotten what was subscribed to.
func (e *Engine) look(l *link) {
	ctx, cancel := context.WithTimeout(context.Background(), renewTimeout)
	defer cancel()
	if l.IsConnected() {
		_, err := l.js.AccountInfo(ctx) // one that is cut off answers that it has no leader
		if err != nil && time.Since(l.answered) < leaseEnds {
			return
		}
		if err != nil && l.IsConnected() {
			e.log.Warn("JetStream does not answer: trying another server", "connection", l.Opts.Name, "server", l.ConnectedUrlRedacted(), "cause", err)
			l.ForceReconnect() // fails if it was closed
			l.answered = time.Now().Add(-leaseEnds + newcomer)
			return
		}
	}
	l.answered = time.Now()
}

// suits looks at the server and at what the account may do there.
func (e *Engine) suits(ctx context.Context) error {
	version := e.conn.ConnectedServerVersion()
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return fmt.Errorf("%w: NATS %s is older than %d.%d", ErrUnsuited, version, oldestMajor, oldestMinor)
	}
	e.replicas = e.config.Replicas
	if e.replicas == 0 {
		e.replicas = 1
		if e.conn.ConnectedClusterName() != "" {
			e.replicas = 3
		}
	}
	short, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	err := guard.Patiently(short, e.measure)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: no JetStream for this account: %w", ErrUnsuited, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("JetStream does not answer: %w", err)
	}
	return err
}
