package queue

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	batchEvents = 1000    // events in one commit
	batchStates = 64      // cursors in one commit: events wait for it
	batchBytes  = 8 << 20 // bytes in one commit

	ackPatience = 5 * time.Second        // how long the log may take to answer a batch
	ackLook     = 250 * time.Millisecond // how often a wait for answers looks at the engine's health
)

// committer is the one goroutine that writes to the log. It takes what has queued up, publishes it in order, waits for the
// log's answers, has the engine make all of it durable, and only then tells the publishers: so a commit is shared by
// everybody who came while the one before was on its way.
type committer struct {
	// static after construction
	engine  Engine
	log     *slog.Logger
	conn    *nats.Conn
	answers chan *nats.Msg
	inbox   string
	durable *watermark // events up to here survive anything; nobody sees one above it
	wake    chan struct{}
	stopped chan struct{}

	// owned by run
	last   uint64 // the highest sequence of an event that the log answered
	round  uint64
	reused uint64 // a sequence that the log gave to a second event

	mu      sync.Mutex // guards the fields below
	events  []*request
	states  []*request
	want    uint64 // somebody needs durable to reach this
	closing bool
	failed  error // sticky: the engine has failed for good, or the log is another one
	stalled error // the disk does not answer: nothing is taken meanwhile
}

func newCommitter(engine Engine, log *slog.Logger, conn *nats.Conn, durable *watermark) (*committer, error) {
	inbox := conn.NewInbox()
	answers := make(chan *nats.Msg, 4*(batchEvents+batchStates)) // those that come too late wait here for the next batch
	if _, err := conn.ChanSubscribe(inbox+".*.*", answers); err != nil {
		return nil, err
	}
	if err := conn.Flush(); err != nil { // answers must not come before the engine knows where to
		return nil, err
	}
	return &committer{
		engine: engine, log: log, conn: conn, answers: answers, inbox: inbox, durable: durable,
		wake: make(chan struct{}, 1), stopped: make(chan struct{}), last: durable.load(),
	}, nil
}

// push queues requests, in order and next to each other. After an error nothing is queued.
func (c *committer) push(rs ...*request) error {
	c.mu.Lock()
	if err := c.refusalLocked(); err != nil {
		c.mu.Unlock()
		return err
	}
	for _, r := range rs {
		if r.event {
			c.events = append(c.events, r)
		} else {
			c.states = append(c.states, r)
		}
	}
	c.mu.Unlock()
	c.signal()
	return nil
}

func (c *committer) refusal() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusalLocked()
}

func (c *committer) refusalLocked() error {
	switch {
	case c.closing:
		return ErrClosed
	case c.failed != nil:
		return c.failed
	}
	return c.stalled
}

// require makes sure that durable reaches seq, which the log has stored, even if nobody publishes any more.
func (c *committer) require(seq uint64) {
	c.mu.Lock()
	c.want = max(c.want, seq)
	c.mu.Unlock()
	c.signal()
}

func (c *committer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// close refuses new requests, and returns after the last one was answered.
func (c *committer) close() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.signal()
	<-c.stopped
}

func (c *committer) run() {
	defer close(c.stopped)
	var batch []*request
	for {
		var want uint64
		var failed error
		var closing bool
		batch, want, failed, closing = c.take(batch[:0])
		if failed == nil && len(batch) > 0 {
			c.publish(batch)
		}
		var late <-chan error
		if failed == nil {
			late, failed = c.commit(batch, want)
		}
		for i, r := range batch {
			if failed != nil && !r.answered { // taken after the engine had failed
				r.err = failed
			}
			r.done(r)
			batch[i] = nil
		}
		if late != nil {
			failed = c.committed(nil, <-late)
			c.mu.Lock()
			c.stalled = nil
			c.mu.Unlock()
		}
		if len(batch) > 0 || (failed == nil && want > c.durable.load()) {
			continue
		}
		if closing {
			return
		}
		<-c.wake
	}
}

// take moves what is queued into a batch.
func (c *committer) take(batch []*request) ([]*request, uint64, error, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bytes := 0
	pick := func(from []*request, most int) []*request {
		n := 0
		for ; n < len(from) && most > 0 && bytes < batchBytes; n++ {
			if r := from[n]; r.state.CompareAndSwap(waiting, taken) {
				batch = append(batch, r)
				bytes += r.size()
				most--
			}
		}
		rest := copy(from, from[n:])
		clear(from[rest:])
		return from[:rest]
	}
	c.events = pick(c.events, batchEvents)
	c.states = pick(c.states, batchStates)
	return batch, c.want, c.failed, c.closing
}

// publish sends a batch in order and waits for the answers. What is not answered in time has an unknown outcome.
func (c *committer) publish(batch []*request) {
	c.round++
	prefix := c.inbox + "." + strconv.FormatUint(c.round, 36) + "."
	open := 0
	unwell, reconnects := c.engine.Health(), c.conn.Stats().Reconnects
	for i, r := range batch {
		if r.known > 0 {
			r.answered, r.seq, r.duplicate = true, r.known, true
			continue
		}
		if unwell != nil { // the log may be another node's by now
			r.answered, r.err = true, fmt.Errorf("%w: %w", ErrUnavailable, unwell)
			continue
		}
		if err := c.send(r, prefix+strconv.Itoa(i)); err != nil { // never left this process
			r.answered, r.err = true, unsent(err)
			continue
		}
		open++
	}
	var why error
	deadline := time.Now().Add(ackPatience)
	look := time.NewTicker(ackLook)
	defer look.Stop()
	for open > 0 && why == nil {
		select {
		case m := <-c.answers:
			if c.answer(batch, prefix, m) {
				open--
			}
			continue
		case <-look.C:
		}
		switch why = c.engine.Health(); {
		case why != nil:
		case c.conn.Stats().Reconnects != reconnects || !c.conn.IsConnected():
			why = errors.New("the connection to the log was lost")
		case time.Now().After(deadline):
			why = errors.New("the log did not answer in time")
		}
	}
	if open == 0 {
		return
	}
	c.log.Error("publishes without an answer", "count", open, "cause", why)
	for _, r := range batch {
		if !r.answered {
			r.answered, r.err = true, fmt.Errorf("%w: %w", ErrUnknown, why)
		}
	}
}

// send publishes a request. The log answers the last of several messages, which completes them.
func (c *committer) send(r *request, reply string) error {
	if r.batch == nil {
		m := r.message()
		m.Reply = reply
		return c.conn.PublishMsg(m)
	}
	id := rand.Text()
	for i, part := range r.batch {
		m := part.message()
		if m.Header == nil {
			m.Header = nats.Header{}
		}
		m.Header["Nats-Batch-Id"] = []string{id}
		m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		if i == len(r.batch)-1 {
			m.Header["Nats-Batch-Commit"] = []string{"1"}
			m.Reply = reply
		}
		if err := c.conn.PublishMsg(m); err != nil { // without the last one none is stored
			return err
		}
	}
	return nil
}

// answer takes in one answer of the log, and returns false when it does not belong to an open request of this batch.
func (c *committer) answer(batch []*request, prefix string, m *nats.Msg) bool {
	text, ok := strings.CutPrefix(m.Subject, prefix)
	i, err := strconv.Atoi(text)
	if !ok || err != nil || i < 0 || i >= len(batch) || batch[i].answered {
		return false // an answer that came too late for its batch
	}
	r := batch[i]
	r.answered = true
	if len(m.Data) == 0 { // 503: no stream listens on the subject
		r.err = fmt.Errorf("%w: no stream answers", ErrUnavailable)
		return true
	}
	if r.seq, r.duplicate = parseAck(m.Data); r.seq > 0 {
		if r.event && !r.duplicate && r.seq <= c.durable.load() {
			c.reused = r.seq
		} else if r.event {
			c.last = max(c.last, r.seq)
		}
		return true
	}
	r.err = refused(m.Data, c.engine.Replicas())
	return true
}

// commit makes the batch durable and moves the mark. After an error nobody can say what is stored: the engine has failed. If the
// disk does not answer in time nobody can say so either, and late tells what comes of it in the end.
func (c *committer) commit(batch []*request, want uint64) (late <-chan error, err error) {
	if c.reused > 0 { // and so will others be
		return nil, c.committed(batch, fmt.Errorf("the log has begun anew: it has stored another event as %d", c.reused))
	}
	stored := want > c.durable.load()
	for _, r := range batch {
		stored = stored || r.err == nil // a duplicate too: what it repeats may be younger than the last commit
	}
	if !stored {
		return nil, nil
	}
	c.last = max(c.last, want)
	last := c.last
	outcome := make(chan error, 1)
	go func() { outcome <- c.engine.Commit(last) }() // waited for here, or by run
	patience := time.NewTimer(ackPatience)
	defer patience.Stop()
	select {
	case err := <-outcome:
		return nil, c.committed(batch, err)
	case <-patience.C:
	}
	c.log.Error("the disk does not answer", "last", last, "for", ackPatience)
	c.mu.Lock()
	c.stalled = fmt.Errorf("%w: the disk has not answered for %v", ErrUnavailable, ackPatience)
	unknown(batch, c.stalled)
	c.mu.Unlock()
	return outcome, nil
}

// committed takes in the outcome of a commit.
func (c *committer) committed(batch []*request, err error) error {
	if err == nil {
		c.durable.advance(c.last)
		return nil
	}
	c.log.Error("commit", "last", c.last, "cause", err)
	unknown(batch, err)
	failed := fmt.Errorf("%w: %w", ErrUnavailable, err)
	c.mu.Lock()
	c.failed = failed
	c.mu.Unlock()
	return failed
}

func unknown(batch []*request, why error) {
	for _, r := range batch {
		if r.err == nil {
			r.err = fmt.Errorf("%w: %w", ErrUnknown, why)
		}
	}
}
