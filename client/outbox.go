package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/serial"
)

// Outbox keeps messages in a file until a server has stored them, so that they survive the end of the program, however it comes.
// A message that may have reached the server before a crash is sent again under the same id, and the server stores it once, as
// long as its window for duplicates lasts. Make one with [OpenOutbox]. Its methods may be called from any goroutine.
type Outbox struct {
	maxBytes int64
	file     *outboxFile // owned by who runs in

	in   serial.Queue[change]
	work sync.WaitGroup // added to with mu held and closed false

	mu     sync.Mutex // guards the fields below
	closed bool
	held   []place       // of the messages that no server has stored, oldest first
	bytes  int64         // of them
	signal chan struct{} // closed when a message is added, and replaced
	oldest chan struct{} // holds one token while somebody sends the oldest message
}

// change is a message to be added, or word that the oldest one is done with.
type change struct {
	record []byte // nil: done
	result chan error
}

// heldMessage is a message as the file has it.
type heldMessage struct {
	Topic       string          `json:"topic"`
	ID          string          `json:"id"`
	Key         string          `json:"key,omitempty"`
	Event       string          `json:"event"`
	Args        json.RawMessage `json:"args"`
	Attachments [][]byte        `json:"attachments,omitempty"`
}

// OpenOutbox opens the outbox in a file, or makes one. maxBytes bounds what it holds; 0: 64 MiB. What the end of a program has
// left half written is dropped: nobody was told that it was held. The error says when the file is damaged in another way, is
// none of an outbox, or is open already.
func OpenOutbox(path string, maxBytes int64) (*Outbox, error) {
	if maxBytes == 0 {
		maxBytes = 64 << 20
	}
	file, held, err := openOutboxFile(path)
	if err != nil {
		return nil, fmt.Errorf("outbox %s: %w", path, err)
	}
	o := &Outbox{maxBytes: maxBytes, file: file, held: held, signal: make(chan struct{}), oldest: make(chan struct{}, 1)}
	for _, p := range held {
		o.bytes += p.size
	}
	return o, nil
}

// Post adds a message and returns once it is on disk. The error is what encoding/json says; [ErrFull]; [ErrClosed]; or the disk's,
// and the message is not held. A message without an ID gets one.
func (o *Outbox) Post(m Message) error {
	record, err := encodeMessage(m)
	if err == nil {
		err = o.change(record)
	}
	if err != nil {
		return fmt.Errorf("post to %q: %w", m.Topic, err)
	}
	return nil
}

func encodeMessage(m Message) ([]byte, error) {
	if m.ID == "" {
		m.ID = rand.Text()
	}
	args, err := holdpost.ArgsOf(m.Args...)
	if err != nil {
		return nil, err
	}
	array := []byte{'['}
	for i := range args.Len() {
		if i > 0 {
			array = append(array, ',')
		}
		array = append(array, args.Raw(i)...)
	}
	return json.Marshal(heldMessage{m.Topic, m.ID, m.Key, m.Event, append(array, ']'), args.Attachments()})
}

func decodeMessage(record []byte) (Message, error) {
	var h heldMessage
	if err := json.Unmarshal(record, &h); err != nil {
		return Message{}, err
	}
	args, err := holdpost.NewArgs(h.Args, h.Attachments)
	return Message{Topic: h.Topic, ID: h.ID, Key: h.Key, Event: h.Event, Args: []any{args}}, err
}

// change has the file changed, together with what others change now.
func (o *Outbox) change(record []byte) error {
	c := change{record, make(chan error, 1)}
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return ErrClosed
	}
	if o.in.Push(c) {
		o.work.Go(func() { o.in.Run(o.write) })
	}
	o.mu.Unlock()
	return <-c.result
}

// write writes a batch, with one sync for all that is added.
func (o *Outbox) write(batch []change) {
	o.mu.Lock()
	bytes, first := o.bytes, len(o.held)
	o.mu.Unlock()
	results := make([]error, len(batch))
	var added []place
	done := 0
	for i, c := range batch {
		switch {
		case c.record == nil:
			o.file.appendDone()
			done++
		case bytes+int64(len(c.record)) > o.maxBytes && first+len(added) > done:
			results[i] = ErrFull
		default:
			p := o.file.appendMessage(c.record)
			added = append(added, p)
			bytes += p.size
		}
	}
	if err := o.file.commit(); err != nil {
		for i := range results {
			results[i] = errors.Join(results[i], err)
		}
		added, done = nil, 0
	}
	o.mu.Lock()
	o.held = append(o.held, added...)
	for _, p := range added {
		o.bytes += p.size
	}
	for _, p := range o.held[:done] {
		o.bytes -= p.size
	}
	o.held = o.held[done:]
	if len(added) > 0 {
		close(o.signal)
		o.signal = make(chan struct{})
	}
	held, live := o.held, o.bytes
	o.mu.Unlock()
	if moved, before, err := o.file.shrink(held, live); err == nil && before != nil {
		o.mu.Lock()
		o.held = moved
		o.mu.Unlock()
		before.Close() // everything in it is in the new one
	} // on an error the file is as it was, and goes on growing
	for i, c := range batch {
		c.result <- results[i]
	}
}

// Len returns the number of messages held.
func (o *Outbox) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.held)
}

// Send sends what is held, and what is added, through a socket, one message after the other in the order in which they were
// added, until ctx ends or the socket does; it returns why. Each is given up only when the server has stored it, or when it has
// refused it for good: then refused is called with it, and the next one follows. A nil refused makes Send return the refusal, a
// [holdpost.Error], and the message stays the oldest. Send may run several times at once; one sends then, and the others wait.
func (o *Outbox) Send(ctx context.Context, s *Socket, refused func(m Message, err error)) error {
	select {
	case o.oldest <- struct{}{}:
		defer func() { <-o.oldest }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for failed := 1; ; {
		m, err := o.next(ctx)
		if err != nil {
			return err
		}
		_, err = s.publish(ctx, m)
		if e, ok := errors.AsType[*holdpost.Error](err); ok && e.Code != "storage_full" && ctx.Err() == nil {
			if refused == nil {
				return fmt.Errorf("publish %q: %w", m.Topic, err)
			}
			refused(m, err)
			err = nil
		} else if ok && ctx.Err() == nil {
			if !sleep(ctx, s.client.config.delay(failed)) {
				return context.Cause(ctx)
			}
			failed++
			continue
		}
		if err != nil {
			return fmt.Errorf("publish %q: %w", m.Topic, err)
		}
		failed = 1
		if err := o.change(nil); err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
	}
}

// next waits for a message and reads it.
func (o *Outbox) next(ctx context.Context) (Message, error) {
	for {
		o.mu.Lock()
		signal := o.signal
		var p place
		waits, closed := len(o.held) == 0, o.closed
		if !waits {
			p = o.held[0]
		}
		o.mu.Unlock()
		switch {
		case closed:
			return Message{}, ErrClosed
		case !waits:
			record, err := p.read()
			if errors.Is(err, os.ErrClosed) { // the file was written anew meanwhile
				continue
			}
			if err != nil {
				return Message{}, fmt.Errorf("outbox: %w", err)
			}
			return decodeMessage(record)
		}
		select {
		case <-signal:
		case <-ctx.Done():
			return Message{}, context.Cause(ctx)
		}
	}
}

// Close closes the file once what is being added is on disk. What is held stays. End [Outbox.Send] first.
func (o *Outbox) Close() error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil
	}
	o.closed = true
	close(o.signal)
	o.mu.Unlock()
	o.work.Wait()
	return o.file.close()
}
