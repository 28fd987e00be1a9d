package hooks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdpost/holdpost/queue"
)

const (
	inbox     = "inbox/"
	mailQueue = "holdpost/mail"
	// publishTime bounds how long it may take to keep what an endpoint is to be told.
	publishTime = 10 * time.Second
	openLook    = 100 * time.Millisecond
	// secondLook is when it is looked again whether somebody is away who was connected when post came for him: a connection that
	// was lost without a word is known to be by then.
	secondLook = time.Minute
)

// tell keeps a note for the endpoints, to be told at once or later. It does not wait, and ctx does not end it.
func (h *Hooks) tell(ctx context.Context, n note, later time.Duration) {
	args, err := json.Marshal([]note{n})
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTime)
		defer cancel()
		m := queue.Message{Topic: Topic, Event: n.Type, ID: n.ID, Args: args, Delay: later}
		err = h.config.Broker.PublishAsync(ctx, m, func(_ queue.Published, err error) { h.kept(n, err) })
	}
	if err != nil {
		h.kept(n, err)
	}
}

func (h *Hooks) kept(n note, err error) {
	if err != nil && !errors.Is(err, queue.ErrClosed) {
		h.config.Logger.Error("hook not told", "type", n.Type, "identity", n.Identity, "err", err)
	}
}

// Run tells the endpoints what is kept for them, until ctx ends.
func (h *Hooks) Run(ctx context.Context) error {
	for {
		err := h.runUntilReloaded(ctx)
		if !errors.Is(err, errReloaded) {
			return err
		}
	}
}

var errReloaded = errors.New("there are other endpoints")

func (h *Hooks) runUntilReloaded(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	now := h.now.Load()
	consume := func(c queue.QueueConfig, f func(context.Context, *queue.Delivery) error) {
		running.Go(func() {
			c.From = now.from
			q, err := h.open(ctx, c)
			if err == nil {
				err = q.Consume(ctx, queue.ConsumerConfig{Name: "hooks"}, f)
			}
			cancel(err)
		})
	}
	mail := false
	for _, e := range now.all {
		var told []string
		for _, event := range []string{"disconnect", "mail"} {
			if slices.Contains(e.Events, event) {
				told = append(told, event)
			}
		}
		if told == nil {
			continue
		}
		mail = mail || slices.Contains(told, "mail")
		sum := sha256.Sum256([]byte(e.URL))
		consume(queue.QueueConfig{Topic: Topic, Name: "hook/" + hex.EncodeToString(sum[:8]), Shared: true, Events: told},
			func(ctx context.Context, d *queue.Delivery) error { return h.deliver(ctx, e, d) })
	}
	if mail {
		consume(queue.QueueConfig{Topic: inbox + "**", Name: mailQueue, Shared: true}, h.mail)
	}
	select {
	case <-h.reloaded:
		return errReloaded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// open returns a queue as soon as the log has been read in far enough.
func (h *Hooks) open(ctx context.Context, c queue.QueueConfig) (*queue.Queue, error) {
	look := time.NewTicker(openLook)
	defer look.Stop()
	for {
		q, err := h.config.Broker.Queue(ctx, c)
		if !errors.Is(err, queue.ErrUnavailable) {
			return q, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// deliver tells one endpoint. An error has it told again, later.
func (h *Hooks) deliver(ctx context.Context, e *endpoint, d *queue.Delivery) error {
	var notes []note
	if err := json.Unmarshal(d.Args, &notes); err != nil || len(notes) != 1 {
		return d.Reject("not a note of a hook")
	}
	if notes[0].Type == "mail" {
		if waits, err := h.waits(ctx, notes[0].Identity); err != nil || !waits {
			return err
		}
	}
	err := e.post(ctx, notes[0], nil)
	if err != nil && ctx.Err() == nil {
		h.config.Logger.Warn("hook failed", "type", d.Name, "attempt", d.Attempt, "err", err)
	}
	return err
}

// waits tells whether somebody is away and has post that he has not seen.
func (h *Hooks) waits(ctx context.Context, identity string) (bool, error) {
	if h.config.Online(identity) {
		return false, nil
	}
	q, err := h.config.Broker.Queue(ctx, queue.QueueConfig{Topic: inbox + identity, Name: identity, MustExist: true})
	if errors.Is(err, queue.ErrNotFound) { // he was never here: all of it waits
		return true, nil
	}
	if err != nil {
		return false, err
	}
	unread, err := q.Unread(ctx)
	return unread > 0, err
}

// mail notes that post came for somebody: he is told of if he is away, and else looked for again. What comes within the same
// minute is one note.
func (h *Hooks) mail(ctx context.Context, d *queue.Delivery) error {
	identity := strings.TrimPrefix(d.Topic, inbox)
	sum := sha256.Sum256([]byte(identity))
	at := d.Time.UTC().Truncate(time.Minute) // the same for both, or the second would be another event
	n := note{ID: "mail/" + hex.EncodeToString(sum[:16]) + at.Format("/200601021504"), Type: "mail", Time: at, Identity: identity}
	if !h.config.Online(identity) {
		h.tell(ctx, n, 0)
		return nil
	}
	n.ID += "/again"
	h.tell(ctx, n, h.secondLook)
	return nil
}
