package queue

// What a queue reads from the index, of one topic or of all that match its pattern.

// page reads up to limit events, and about so many bytes. all is true if there are no more up to upto.
func (q *Queue) page(after, upto uint64, limit, bytes int, page []*Event) (_ []*Event, all bool, err error) {
	if q.pattern == nil {
		return q.broker.page(q.topic, after, upto, limit, bytes, page)
	}
	all = true
	err = q.broker.index.Scan(q.pattern.match, after, upto, limit+1, fill(&page, &all, limit, bytes))
	return page, all, err
}

func (b *Broker) page(topic string, after, upto uint64, limit, bytes int, page []*Event) (_ []*Event, all bool, err error) {
	all = true
	err = b.index.Range(topic, after, upto, limit+1, fill(&page, &all, limit, bytes))
	return page, all, err
}

// fill appends to the page until it is full, and then says that this was not all.
func fill(page *[]*Event, all *bool, limit, bytes int) func(*Event) bool {
	return func(e *Event) bool {
		if len(*page) == limit || bytes <= 0 {
			*all = false
			return false
		}
		*page = append(*page, e)
		bytes -= e.size()
		return true
	}
}

func (e *Event) size() int {
	n := 128 + len(e.Name) + len(e.Args)
	for _, a := range e.Attachments {
		n += len(a)
	}
	return n
}

// lookup returns nil when the index has no such event.
func (q *Queue) lookup(seq uint64) (*Event, error) {
	topic := q.topic
	if q.pattern != nil {
		var ok bool
		var err error
		if topic, ok, err = q.broker.index.TopicAt(seq); !ok {
			return nil, err
		}
	}
	return q.broker.lookup(topic, seq)
}

func (b *Broker) lookup(topic string, seq uint64) (found *Event, err error) {
	if seq == 0 {
		return nil, nil
	}
	err = b.index.Range(topic, seq-1, seq, 1, func(e *Event) bool {
		found = e
		return true
	})
	return found, err
}

// missing returns the last sequence above pos at which retention took an event of the reader's, or may have; pos if it took
// none.
func (r *reader) missing(pos uint64) (uint64, error) {
	q := r.queue
	b := q.broker
	if q.pattern == nil {
		return b.missing(q.topic, pos)
	}
	trims := b.trims.Load() + 1 // never 0
	if r.trims != trims {       // to look at all topics takes long
		lost, err := b.index.TrimmedOf(q.pattern.prefix, q.pattern.match)
		if err != nil {
			return pos, err
		}
		r.trims, r.trimmed = trims, lost
	}
	return max(pos, r.trimmed), nil
}

func (q *Queue) gap(after, to uint64) Gap { return q.broker.gap(q.topic, after, to) }

// count returns how many events after the sequence the queue wants; it stops at most.
func (q *Queue) count(after uint64, most int) (n int, err error) {
	b := q.broker
	q.mu.Lock()
	now := q.now
	q.mu.Unlock()
	if q.pattern == nil && len(now.Events) == 0 {
		return b.index.Count(q.topic, q.id, after, most)
	}
	one := func(e *Event) bool {
		if now.wants(e, q.id) {
			n++
		}
		return n < most
	}
	upto := b.index.Applied()
	if q.pattern != nil {
		err = b.index.Scan(q.pattern.match, after, upto, 0, one)
	} else {
		err = b.index.Range(q.topic, after, upto, 0, one)
	}
	return n, err
}
