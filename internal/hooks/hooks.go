// Package hooks tells HTTP endpoints what happens, and asks them what to do.
//
//	connect      a client connects: the answer lets it in or not, and may say who it is
//	event        a client sends an event that is no operation: the answer is the ack's
//	disconnect   a socket that was let in has ended
//	mail         an identity is not connected, and something that it has not seen was published to its inbox
//
// The first two are asked while the client waits, for 5 seconds at most; an endpoint that failed several times in a row is not
// asked for a while, and clients are told "unavailable". The other two are told: they are kept in a queue of the endpoint's own,
// on the topic [Topic], survive a restart, are repeated with back-off, and become dead letters after 20 times.
//
// # Requests
//
// Each is a POST of a JSON object with the members id, type and time, and what the type has. The header Holdpost-Id repeats the
// id, by which an endpoint knows what comes twice. Holdpost-Signature is "t=SECONDS,v1=HEX": the HMAC-SHA256, with the hook's
// secret, of the seconds, a dot, the id, a dot, and the body. An endpoint refuses what is older than a few minutes.
//
// # Concurrency
//
// All methods may be called from any goroutine. [Hooks.Run] tells the endpoints as long as it runs; [Hooks.Reload] replaces them.
package hooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/queue"
)

const (
	// Topic has what endpoints are to be told.
	Topic = "holdpost/hooks"

	// Timeout bounds a request with its response.
	Timeout = 5 * time.Second

	maxAnswer    = 64 << 10 // bytes of a response that are read
	maxFailures  = 5        // in a row; then an endpoint is not asked for a while
	restDuration = 30 * time.Second
)

// Hook is an endpoint.
type Hook struct {
	URL    string
	Events []string // of connect, event, disconnect, mail
	Secret []byte
}

// Config says what to tell whom. All fields but Done are required.
type Config struct {
	Hooks    []Hook
	Broker   *queue.Broker
	HTTP     *http.Client // with [Timeout]
	Identity func(*holdpost.Socket) string
	Online   func(identity string) bool
	Logger   *slog.Logger
	// Done is called after each request with its type. nil: nobody is.
	Done func(kind string, failed bool, took time.Duration)
}

// Hooks tell endpoints. Make them with [New].
type Hooks struct {
	config   Config
	now      atomic.Pointer[endpoints]
	reloaded chan struct{} // to Run

	secondLook time.Duration // shorter in tests
}

// endpoints are what a reload replaces. Immutable.
type endpoints struct {
	all  []*endpoint
	from queue.Start // where a queue that is made now begins: with what happens from New or Reload on
}

// New returns hooks. It does no I/O.
func New(c Config) *Hooks {
	h := &Hooks{config: c, reloaded: make(chan struct{}, 1), secondLook: secondLook}
	h.now.Store(h.endpoints(c.Hooks, nil))
	return h
}

// Reload replaces the endpoints. One that is configured as before goes on as it was; the queue of one that is left out stays, as does what it has
// not been told, for when it is back.
func (h *Hooks) Reload(hooks []Hook) {
	before := h.now.Load()
	if slices.EqualFunc(before.all, hooks, (*endpoint).is) {
		return
	}
	h.now.Store(h.endpoints(hooks, before.all))
	select {
	case h.reloaded <- struct{}{}:
	default:
	}
}

func (h *Hooks) endpoints(hooks []Hook, before []*endpoint) *endpoints {
	now := &endpoints{from: queue.StartFirst}
	if end := h.config.Broker.End(); end != (queue.Offset{}) {
		now.from = queue.Start(end.String())
	}
	for _, hook := range hooks {
		i := slices.IndexFunc(before, func(e *endpoint) bool { return e.is(hook) })
		if i >= 0 {
			now.all = append(now.all, before[i])
		} else {
			now.all = append(now.all, &endpoint{Hook: hook, http: h.config.HTTP, done: h.config.Done})
		}
	}
	return now
}

// asked returns the endpoint for what is asked, nil if there is none. Where several would answer the first one counts.
func (h *Hooks) asked(event string) *endpoint {
	all := h.now.Load().all
	i := slices.IndexFunc(all, func(e *endpoint) bool { return slices.Contains(e.Events, event) })
	if i < 0 {
		return nil
	}
	return all[i]
}

// note is what an endpoint is told.
type note struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Time     time.Time       `json:"time"`
	Identity string          `json:"identity"`
	Socket   string          `json:"socket,omitempty"`
	Address  string          `json:"address,omitempty"`
	Auth     json.RawMessage `json:"auth,omitempty"`        // connect: what the client says of itself
	Event    string          `json:"event,omitempty"`       // event
	Args     json.RawMessage `json:"args,omitempty"`        // event
	Binary   [][]byte        `json:"attachments,omitempty"` // event: base64; what the placeholders in args refer to
	Reason   string          `json:"reason,omitempty"`      // disconnect
}

func newNote(kind, identity string, s *holdpost.Socket) note {
	return note{ID: rand.Text(), Type: kind, Time: time.Now().UTC(), Identity: identity, Socket: s.ID(), Address: s.Handshake().Address}
}

// endpoint is a hook and how it fares.
type endpoint struct {
	Hook
	http *http.Client
	done func(kind string, failed bool, took time.Duration) // may be nil

	mu       sync.Mutex // guards the fields below
	failures int        // in a row
	rests    time.Time  // until when it is not asked
}

func (e *endpoint) is(h Hook) bool {
	return e.URL == h.URL && slices.Equal(e.Events, h.Events) && bytes.Equal(e.Secret, h.Secret)
}

var errResting = errors.New("the endpoint has failed too often, and is not asked for a while")

// ask is post for those who wait: it fails at once while the endpoint rests.
func (e *endpoint) ask(ctx context.Context, n note, answer any) error {
	e.mu.Lock()
	resting := time.Now().Before(e.rests)
	e.mu.Unlock()
	if resting {
		return errResting
	}
	err := e.post(ctx, n, answer)
	if ctx.Err() != nil { // the client went away
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		e.failures = 0
	} else if e.failures++; e.failures >= maxFailures {
		e.failures, e.rests = 0, time.Now().Add(restDuration)
	}
	return err
}

// post tells the endpoint, and decodes its answer if it gives one.
func (e *endpoint) post(ctx context.Context, n note, answer any) (err error) {
	if e.done != nil {
		start := time.Now()
		defer func() { e.done(n.Type, err != nil, time.Since(start)) }()
	}
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Holdpost-Id", n.ID)
	r.Header.Set("Holdpost-Signature", sign(e.Secret, time.Now(), n.ID, body))
	response, err := e.http.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299:
		return fmt.Errorf("%s answers %s", e.URL, response.Status)
	case err != nil:
		return fmt.Errorf("%s: %w", e.URL, err)
	case len(text) > maxAnswer:
		return fmt.Errorf("%s answers more than %d bytes", e.URL, maxAnswer)
	case answer == nil || len(bytes.TrimSpace(text)) == 0:
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s answers what makes no sense: %w", e.URL, err)
	}
	return nil
}

func sign(secret []byte, at time.Time, id string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%d.%s.", at.Unix(), id)
	mac.Write(body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
