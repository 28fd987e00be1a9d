package queue

import "time"

// An event may end the process that works on it, and would do so for ever if its deliveries were counted in memory alone. What
// the log held when the broker was opened may have been in somebody's hands when the process before ended. So a queue that
// bounds its deliveries has the store know of those events' deliveries before they are made: it announces some at a time. If
// the process ends all the same, they are suspects. One of them at a time is then on trial, and nothing else is handed out
// until it is settled: so the one that is to blame is found out, and not the others with it.

const announceMost = 32

// careful says whether the store must know of an event's delivery before it is made.
func (q *Queue) careful(seq uint64) bool {
	return q.now.MaxDeliveries > 0 && !q.ephemeral && seq <= q.broker.opened
}

// mustWait says whether an event has to wait for those before it that the store must know of, or for the end of a trial.
func (q *Queue) mustWait(r *reader, w *entry, seq uint64) bool {
	if q.trial != 0 && q.trial != seq {
		return true
	}
	if w != nil && w.announced {
		return false
	}
	n := len(r.announce)
	return r.announcing || n >= announceMost || n > 0 && !q.careful(seq)
}

// clearedLocked ends the trial of an event that left the process alive.
func (q *Queue) clearedLocked(w *entry) {
	w.suspect = false
	if q.trial == w.seq {
		q.trial = 0
	}
}

// announce stores that the deliveries of which admit said so are about to be made, and then lets them be made.
func (q *Queue) announce(r *reader) {
	q.mu.Lock()
	defer q.mu.Unlock()
	seqs := r.announce
	if len(seqs) == 0 {
		return
	}
	r.announce, r.announcing = nil, true
	for _, seq := range seqs {
		if w := q.window.find(seq); w != nil {
			w.announced = true
		}
	}
	again := func() {
		r.announcing = false
		for _, seq := range seqs {
			if q.window.find(seq) != nil {
				r.redoLocked(seq)
			}
		}
	}
	announced := func(err error) {
		if err == nil {
			again()
			return
		}
		for _, seq := range seqs {
			if w := q.window.find(seq); w != nil {
				w.announced = false
			}
		}
		time.AfterFunc(saveEvery, func() { q.change(again) }) // until then nothing that is new gets past them
	}
	if err := q.saveLocked(func(err error) { q.change(func() { announced(err) }) }); err != nil {
		announced(err)
	}
}
