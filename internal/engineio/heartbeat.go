package engineio

// scheduleLocked puts the session where the wheel visits it next.
func (s *Session) scheduleLocked() {
	due := uint64(0)
	sooner := func(at uint64) {
		if at != 0 && (due == 0 || at < due) {
			due = at
		}
	}
	sooner(s.closeBy)
	if s.state() != stateEnded {
		sooner(s.nextBeat)
		sooner(s.upgradeBy)
		sooner(s.messageBy)
		sooner(s.alarmAt)
		if !s.awaiting && s.asides != nil && len(s.asides.unpinged) > 0 {
			sooner(s.mayPingAt())
		}
	}
	if due != 0 && !s.server.wheel.schedule(s, due) && s.state() == stateEnded && s.ws != nil {
		s.ws.link.close() // the server has stopped, nobody would close it later
	}
}

// mayPingAt returns the tick from which a ping may go out for the sake of Confirm.
func (s *Session) mayPingAt() uint64 {
	if s.lastPing == 0 {
		return 1
	}
	return s.lastPing + uint64(confirmEvery/s.server.wheel.length)
}

// visit does what has become due and says when to come again. It is the wheel's.
func (s *Session) visit() {
	now := s.server.wheel.tick()
	due := func(at uint64) bool { return at != 0 && at <= now }
	s.mu.Lock()
	switch {
	case s.state() == stateEnded:
		ws := s.ws
		hangUp := due(s.closeBy)
		if !hangUp && ws != nil && !ws.gone {
			s.scheduleLocked()
		}
		s.mu.Unlock()
		if hangUp && ws != nil {
			ws.link.close()
		}
		return
	case due(s.closeBy):
		reason := s.reason
		s.mu.Unlock()
		s.end(reason, nil, nil)
		return
	case due(s.messageBy):
		s.mu.Unlock()
		s.end(ReasonTransportError, errSlowMessage, slowMessageFrame)
		return
	case due(s.nextBeat) && s.awaiting:
		if s.extended || !s.heard.Load() {
			s.mu.Unlock()
			s.end(ReasonPingTimeout, nil, closeFrame)
			return
		}
		// Something came since the ping: the pong may stand behind a big message on a slow line.
		s.extended = true
		s.nextBeat = s.server.wheel.after(s.server.config.PingTimeout)
	}
	var candidate *socket
	if due(s.upgradeBy) {
		candidate = s.dropCandidateLocked()
	}
	if due(s.alarmAt) {
		f := s.alarm
		s.alarmAt, s.alarm = 0, nil
		if s.server.tasks.begin() {
			go func() {
				defer s.server.tasks.done()
				f()
			}()
		}
	}
	wanted := s.asides != nil && len(s.asides.unpinged) > 0 && now >= s.mayPingAt()
	ping := !s.awaiting && (due(s.nextBeat) || wanted)
	if ping {
		s.pingLocked(now)
	}
	s.scheduleLocked()
	if ping {
		s.flushLocked()
	} else {
		s.mu.Unlock()
	}
	candidate.hangUp()
}

// overdueLocked reports whether an answer is due that has not come, and the wheel has yet to see it.
func (s *Session) overdueLocked() bool {
	return s.awaiting && s.nextBeat != 0 && s.nextBeat <= s.server.wheel.tick()
}

// pingLocked queues a ping, whatever else is queued (Engine.IO v4, "Heartbeat").
func (s *Session) pingLocked(now uint64) {
	w := &s.server.wheel
	late := uint64(0)
	if s.nextBeat != 0 && s.nextBeat < now { // a wheel that is a little late makes the answer due no later
		late = min(now-s.nextBeat, uint64(maxLate/w.length))
	}
	s.awaiting, s.extended, s.lastPing = true, false, now
	s.nextBeat = w.after(s.server.config.PingTimeout) - late
	s.heard.Store(false)
	s.enqueueLocked(pingPacket.Len(), pingPacket)
	if a := s.asides; a != nil {
		a.pinged = append(a.pinged, a.unpinged...)
		a.unpinged = nil
	}
}

// startBeatLocked counts the interval to the next ping from now. In revision 3 that is the client's, and is awaited always.
func (s *Session) startBeatLocked() {
	c := &s.server.config
	switch {
	case c.PingInterval <= 0:
		s.nextBeat = 0
	case s.v3:
		s.awaiting, s.extended = true, true
		s.nextBeat = s.server.wheel.after(c.PingInterval + c.PingTimeout)
	default:
		s.nextBeat = s.server.wheel.after(c.PingInterval)
	}
}

// pinged answers the ping of a client of revision 3.
func (s *Session) pinged() {
	s.mu.Lock()
	if s.state() != stateOpen {
		s.mu.Unlock()
		return
	}
	s.startBeatLocked()
	if s.packets >= s.server.config.QueuePackets {
		s.mu.Unlock()
		s.end(ReasonSlowPeer, errQueueFull, nil)
		return
	}
	s.enqueueLocked(pongPacket.Len(), pongPacket)
	s.flushLocked()
}

// ponged takes the answer to a ping; one that nobody asked for means nothing.
func (s *Session) ponged() {
	s.mu.Lock()
	if !s.awaiting {
		s.mu.Unlock()
		return
	}
	s.awaiting = false
	due := s.nextBeat
	s.startBeatLocked()
	var confirmed []func(bool)
	if a := s.asides; a != nil {
		confirmed, a.pinged = a.pinged, nil
		s.tidyLocked()
	}
	if s.nextBeat < due || s.asides != nil { // else the wheel comes by early enough as it is
		s.scheduleLocked()
	}
	s.mu.Unlock()
	for _, f := range confirmed {
		f(true)
	}
}

// Confirm calls f once: with true when the peer has answered a ping that was sent after this call, and so has received
// everything sent before; with false when the session ends first. Such a ping goes out at once, or a second after the
// one before it; calls meanwhile share it. A client of revision 3 is never asked, since it answers no pings.
func (s *Session) Confirm(f func(ok bool)) {
	s.mu.Lock()
	if s.state() == stateEnded {
		s.mu.Unlock()
		f(false)
		return
	}
	a := s.aside()
	a.unpinged = append(a.unpinged, f)
	if now := s.server.wheel.tick(); !s.awaiting && now >= s.mayPingAt() {
		s.pingLocked(now)
		s.scheduleLocked()
		s.flushLocked()
		return
	}
	s.scheduleLocked()
	s.mu.Unlock()
}
