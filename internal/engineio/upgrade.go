package engineio

import (
	"github.com/holdpost/holdpost/internal/engineio/wire"
	"github.com/holdpost/holdpost/internal/frame"
)

// adopt makes the socket the candidate to take over from polling and reports whether it may be: one at a time, and
// only of a session that polls.
func (s *Session) adopt(c *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state() != stateOpen || s.ws != nil || s.candidate != nil {
		return false
	}
	s.candidate = c
	s.upgradeBy = s.server.wheel.after(s.server.config.UpgradeTimeout)
	s.scheduleLocked()
	return true
}

// negotiate handles a candidate's packets (Engine.IO v4, "Upgrade"): a probe, which is answered, and then the upgrade.
// Anything else costs it the connection, and the session nothing. recv is held, so that no poll's packets are handled
// after those that follow the upgrade.
func (c *socket) negotiate(op frame.Opcode, payload []byte) error {
	switch {
	case op != frame.Text:
	case c.stage == wantProbe && string(payload) == string(wire.Ping)+"probe":
		c.stage = wantUpgrade
		c.probed = true
		c.say(c.encode(probeReply))
		return c.session.probe(c)
	case c.stage == wantUpgrade && string(payload) == string(wire.Upgrade):
		if c.session.switchTo(c) {
			c.stage = inUse
			return nil
		}
	}
	return errCandidate
}

// say writes a few bytes to a fresh connection.
func (c *socket) say(b []byte) {
	n, err := c.link.try(b)
	if err != nil || n == len(b) {
		return
	}
	t := &c.session.server.tasks
	if n > 0 || !t.begin() {
		c.link.close()
		return
	}
	go func() {
		defer t.done()
		if err := c.link.write(b, c.session.server.config.WriteTimeout); err != nil {
			c.link.close()
			return
		}
		c.link.calm()
	}()
}

// probe lets the polls go: from here to the switch they are answered at once, once all is handled that came with the probe.
func (s *Session) probe(c *socket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.candidate != c {
		return errCandidate
	}
	s.probed = true
	return nil
}

// letPollGo has the waiting poll answered.
func (s *Session) letPollGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

// switchTo makes the candidate the transport. What is queued follows once no poll's response is being written.
func (s *Session) switchTo(c *socket) bool {
	s.mu.Lock()
	if s.candidate != c || s.state() != stateOpen {
		s.mu.Unlock()
		return false
	}
	s.dropCandidateLocked()
	s.ws = c
	s.wakeLocked()
	if s.awaiting && !s.v3 { // the ping may have got lost with the last poll's response; its answer may not
		s.nextBeat = s.server.wheel.after(s.server.config.PingTimeout)
	}
	s.scheduleLocked()
	s.flushLocked()
	return true
}
