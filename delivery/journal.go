package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/queue"
)

const (
	recordPrefix  = "r"
	sessionPrefix = "s"
	longKey       = 200 // a longer one is hashed: names of topics are bounded, and have no *

	maxUnstored = 16 << 20 // bytes on their way into the log; less than a broker lets wait, so that Append never waits
	readPage    = 200
)

// Journal is a [holdpost.Journal] on the log of a broker: every key and every session is a topic there. The broker must be used for
// nothing else, and what it keeps by age and size is how long clients can be recovered. Sessions that are connected are stored again
// every ten minutes, so its MaxAge has to be longer than twenty minutes and Recovery.MaxAway together.
type Journal struct {
	broker *queue.Broker
	log    *slog.Logger

	mu       sync.Mutex // guards the fields below
	open     []*write   // in the order of the calls
	unstored int
	telling  bool      // a goroutine calls back
	told     sync.Cond // it has ended
}

// write is an Append or a Save on its way.
type write struct {
	size     int
	parts    int // of an Append that have no outcome yet
	position uint64
	failed   bool
	stored   func(position uint64)
}

var _ holdpost.Journal = (*Journal)(nil)

// NewJournal returns a journal on a broker. A nil Logger is [slog.Default].
func NewJournal(b *queue.Broker, log *slog.Logger) *Journal {
	if log == nil {
		log = slog.Default()
	}
	j := &Journal{broker: b, log: log}
	j.told.L = &j.mu
	return j
}

// Close waits until everybody has been told what became of what is on its way. Call it after the broker was closed. What comes
// meanwhile or after it is not stored, and told so: a server that did not wait for its handlers may still be storing sessions.
func (j *Journal) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.telling {
		j.told.Wait()
	}
}

// Append implements [holdpost.Journal].
func (j *Journal) Append(keys []string, record []byte, stored func(position uint64)) {
	topics := make([]string, len(keys))
	for i, key := range keys {
		topics[i] = topicOf(recordPrefix, key)
	}
	j.write(topics, [][]byte{record}, stored)
}

// Save implements [holdpost.Journal].
func (j *Journal) Save(session string, state []byte, stored func(ok bool)) {
	var attachments [][]byte
	if state != nil {
		attachments = [][]byte{state}
	}
	j.write([]string{topicOf(sessionPrefix, session)}, attachments, func(position uint64) { stored(position > 0) })
}

func topicOf(prefix, key string) string {
	if len(key) > longKey || strings.Contains(key, "*") {
		sum := sha256.Sum256([]byte(key))
		return prefix + "#" + base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return prefix + "=" + key
}

func (j *Journal) write(topics []string, attachments [][]byte, stored func(uint64)) {
	w := &write{parts: len(topics), stored: stored}
	for _, a := range attachments {
		w.size += len(a) * len(topics)
	}
	j.mu.Lock()
	defer j.mu.Unlock() // the order of the calls is that of the log
	j.open = append(j.open, w)
	j.unstored += w.size
	for _, topic := range topics {
		err := queue.ErrFull
		if j.unstored <= maxUnstored || len(j.open) == 1 {
			err = j.broker.PublishAsync(context.Background(), queue.Message{Topic: topic, Event: "r", Attachments: attachments},
				func(p queue.Published, err error) {
					j.mu.Lock()
					defer j.mu.Unlock()
					j.doneLocked(w, p.Offset.Seq, err)
				})
		}
		if err != nil {
			j.doneLocked(w, 0, err)
		}
	}
}

// doneLocked notes the outcome of a part, and has those told whose turn it is. mu is held.
func (j *Journal) doneLocked(w *write, position uint64, err error) {
	w.parts--
	w.position = max(w.position, position)
	if err != nil {
		w.failed = true
		j.log.Warn("recovery: not stored", "error", err)
	}
	if w.parts == 0 && !j.telling {
		j.telling = true
		go j.tell() // waited for by Close
	}
}

// tell calls back for everything that has its outcome and nothing without one before it.
func (j *Journal) tell() {
	for {
		j.mu.Lock()
		if len(j.open) == 0 || j.open[0].parts > 0 {
			j.telling = false
			j.told.Broadcast()
			j.mu.Unlock()
			return
		}
		w := j.open[0]
		j.open[0] = nil
		if j.open = j.open[1:]; len(j.open) == 0 {
			j.open = nil
		}
		j.unstored -= w.size
		j.mu.Unlock()
		if w.failed {
			w.position = 0
		}
		w.stored(w.position)
	}
}

// Load implements [holdpost.Journal].
func (j *Journal) Load(ctx context.Context, session string) ([]byte, error) {
	page, err := j.broker.History(ctx, topicOf(sessionPrefix, session), queue.StartNew, -1)
	if queue.Code(err) == "invalid_topic" {
		return nil, nil // no session has such a name
	}
	if err != nil || len(page.Events) == 0 || len(page.Events[0].Attachments) == 0 {
		return nil, err
	}
	return page.Events[0].Attachments[0], nil
}

// Read implements [holdpost.Journal].
func (j *Journal) Read(ctx context.Context, keys []string, after, upto uint64, f func(position uint64, key string, record []byte) error) (complete bool, err error) {
	sources := make([]*recordSource, 0, len(keys))
	for _, key := range keys {
		s := &recordSource{journal: j, key: key, topic: topicOf(recordPrefix, key), after: after, upto: upto}
		if complete, err = s.fill(ctx); err != nil || !complete {
			return complete, err
		}
		if len(s.page) > 0 {
			sources = append(sources, s)
		}
	}
	for len(sources) > 0 {
		first := 0
		for i, s := range sources {
			if s.page[0].Offset.Seq < sources[first].page[0].Offset.Seq {
				first = i
			}
		}
		s := sources[first]
		e := s.page[0]
		if len(e.Attachments) != 1 {
			return true, fmt.Errorf("record %d of %q is malformed", e.Offset.Seq, s.key)
		}
		if err := f(e.Offset.Seq, s.key, e.Attachments[0]); err != nil {
			return true, err
		}
		if s.page = s.page[1:]; len(s.page) > 0 {
			continue
		}
		if complete, err = s.fill(ctx); err != nil || !complete {
			return complete, err
		}
		if len(s.page) == 0 {
			sources[first] = sources[len(sources)-1]
			sources = sources[:len(sources)-1]
		}
	}
	return true, nil
}

// recordSource reads the records under one key.
type recordSource struct {
	journal     *Journal
	key, topic  string
	after, upto uint64
	page        []*queue.Event
	end         bool // nothing comes behind the page
}

func (s *recordSource) fill(ctx context.Context) (complete bool, err error) {
	if s.end {
		return true, nil
	}
	end := s.journal.broker.End()
	page, err := s.journal.broker.History(ctx, s.topic, queue.Offset{Epoch: end.Epoch, Seq: s.after}.After(), readPage)
	if err != nil || page.Gap != nil {
		return false, err
	}
	s.end = page.Complete
	s.page = page.Events
	for i, e := range s.page {
		if e.Offset.Seq > s.upto {
			s.page, s.end = s.page[:i], true
			break
		}
		s.after = e.Offset.Seq
	}
	return true, nil
}

// Last implements [holdpost.Journal].
func (j *Journal) Last() uint64 { return j.broker.End().Seq }

// Offset implements [holdpost.Journal].
func (j *Journal) Offset(position uint64) string {
	return queue.Offset{Epoch: j.broker.End().Epoch, Seq: position}.String()
}

// Position implements [holdpost.Journal].
func (j *Journal) Position(offset string) (position uint64, ok bool) {
	o, err := queue.ParseOffset(offset)
	if err != nil || o.Epoch != j.broker.End().Epoch {
		return 0, false
	}
	return o.Seq, true
}
