package engineio

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdpost/holdpost/internal/engineio/wire"
)

// Close closes the session once everything that was sent has gone out; nothing more can be sent. A WebSocket gets a
// close frame then. A polling client fetches its close packet with its next request, for which it has 30 s, or 2 s when the
// server shuts down: who has not come by then may be gone, and else finds no session, which tells it as much.
func (s *Session) Close(r Reason) {
	s.mu.Lock()
	if s.state() != stateOpen {
		s.mu.Unlock()
		return
	}
	s.setStateLocked(stateClosing)
	s.reason = r
	patience := closeTimeout
	if r == ReasonShutdown && s.ws == nil {
		patience = lingerTimeout
	}
	s.closeBy = s.server.wheel.after(patience)
	s.scheduleLocked()
	candidate := s.dropCandidateLocked()
	switch {
	case s.ws == nil:
		s.wakeLocked()
		s.mu.Unlock()
	case s.writing:
		s.mu.Unlock() // the writer goes on with the close
	case s.queue != nil || s.pong != nil:
		s.flushLocked()
	default:
		s.mu.Unlock()
		s.end(r, nil, closeFrame)
	}
	candidate.hangUp()
}

// Abort closes the session at once. What is queued is dropped.
func (s *Session) Abort(r Reason) { s.end(r, nil, closeFrame) }

// end is the only way to the end of a session, and works once. A WebSocket gets the frame last, if there is one, and
// some time to hang up; without it the connection is closed at once, as it is when the peer takes no bytes any more.
func (s *Session) end(r Reason, cause error, last *Message) {
	s.mu.Lock()
	if s.state() == stateEnded {
		s.mu.Unlock()
		return
	}
	s.setStateLocked(stateEnded)
	s.reason, s.cause = r, cause
	s.dropQueueLocked()
	s.corked = false
	s.alarmAt, s.alarm = 0, nil
	asides := s.asides
	s.asides = nil
	candidate := s.dropCandidateLocked()
	if s.lastWord == 0 {
		s.lastWord = byte(wire.Close)
	}
	s.wakeLocked()
	s.lingers = s.ws != nil && last != nil && !s.ws.gone && !s.stuckLocked()
	s.server.forget(s, s.lingers)
	switch ws := s.ws; {
	case ws == nil:
		s.server.wheel.remove(s)
		s.mu.Unlock()
	case !s.lingers:
		s.server.wheel.remove(s)
		s.mu.Unlock()
		ws.link.close()
	default:
		patience := lingerTimeout
		if ws.stream != nil { // its peer does not hang up by itself
			patience = streamLinger
		}
		s.closeBy = s.server.wheel.after(patience)
		s.scheduleLocked()
		s.queue = newBatch()
		s.queue.messages = append(s.queue.messages, last)
		s.flushLocked()
	}
	candidate.hangUp()
	if asides != nil {
		for _, f := range asides.drained {
			f()
		}
		for _, f := range asides.pinged {
			f(false)
		}
		for _, f := range asides.unpinged {
			f(false)
		}
	}
	s.finish()
}

// finish calls Closed if it is time to: after the end, and when the handler is not busy. Who has held recv calls it too.
func (s *Session) finish() {
	if s.state() != stateEnded || !s.recv.TryLock() {
		return
	}
	told := s.told
	s.told = true
	s.recv.Unlock()
	if told || s.handler == nil {
		return
	}
	s.mu.Lock()
	reason, cause := s.reason, s.cause
	s.mu.Unlock()
	s.handler.Closed(reason, cause)
	s.server.told()
	if l := s.server.config.Logger; l.Enabled(context.Background(), slog.LevelDebug) {
		l.Debug("session closed", "remote", s.remote, "reason", string(reason), "cause", cause, "age", time.Since(s.opened))
	}
}

// dropCandidateLocked ends an upgrade that is under way. The caller hangs up on the candidate once it has released mu.
func (s *Session) dropCandidateLocked() *socket {
	c := s.candidate
	s.candidate, s.probed, s.letGo, s.upgradeBy = nil, false, false, 0
	return c
}

// awaitPoll waits a moment for the poll that ends with the session: the client may have sent it before its close packet.
func (s *Session) awaitPoll() {
	s.mu.Lock()
	if s.poll != nil || s.state() == stateEnded {
		s.mu.Unlock()
		return
	}
	polled := make(chan struct{})
	s.aside().polled = polled
	s.mu.Unlock()
	select {
	case <-polled:
	case <-time.After(overtakeTime):
	}
}

// polledLocked tells awaitPoll that the poll has come.
func (s *Session) polledLocked() {
	if s.asides != nil && s.asides.polled != nil {
		close(s.asides.polled)
		s.asides.polled = nil
		s.tidyLocked()
	}
}
