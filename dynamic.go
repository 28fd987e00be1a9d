package holdpost

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// family is what makes a namespace the parent of others. Static after construction.
type family struct {
	pattern *regexp.Regexp // nil for one by a function
	match   func(ctx context.Context, name string, auth json.RawMessage) bool
}

// OfPattern returns a new parent: the namespaces whose names match re are made when clients connect to them, and are gone
// when their last socket has left. They share the gates, handlers and hooks of their parent, those that are registered
// later included; a handler of their own comes first. What is emitted to the parent reaches the sockets of all of them.
//
// Names include their slash, and re matches anywhere: anchor it. A name that several parents match belongs to the first.
// [Server.Of] makes a namespace stay, with the parent whose pattern it matches. Config.MaxDynamicNamespaces bounds how many
// there are at a time.
func (srv *Server) OfPattern(re *regexp.Regexp) *Namespace {
	match := func(_ context.Context, name string, _ json.RawMessage) bool { return re.MatchString(name) }
	return srv.addParent(re.String(), &family{pattern: re, match: match})
}

// OfFunc is [Server.OfPattern] with a function that is asked for each client, and given the auth object of its CONNECT.
// It may wait; its context ends with the connection. When it panics the client is refused.
func (srv *Server) OfFunc(match func(ctx context.Context, name string, auth json.RawMessage) bool) *Namespace {
	return srv.addParent("", &family{match: match})
}

func (srv *Server) addParent(name string, f *family) *Namespace {
	parent := newNamespace(srv, name)
	parent.family = f
	parent.children = make(map[*Namespace]struct{})
	close(parent.ready)
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.parents = append(slices.Clip(srv.parents), parent)
	return parent
}

// OnNamespace adds a function that is called with each namespace that is made from now on, before any client is in it.
func (srv *Server) OnNamespace(f func(ns *Namespace)) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.onNamespace = append(slices.Clip(srv.onNamespace), f)
}

// hold returns the namespace of a name for a socket that connects to it, and keeps it from being cleaned up until release.
// When there is none but parents may make it, it is only a name, to be replaced in Socket.settle. nil: there can be none.
func (srv *Server) hold(name string) *Namespace {
	srv.mu.RLock()
	ns := srv.namespaces[name]
	parents := len(srv.parents) > 0
	srv.mu.RUnlock()
	switch {
	case ns != nil && ns.parent == nil:
		return ns
	case ns == nil && !parents:
		return nil
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if ns := srv.namespaces[name]; ns != nil {
		ns.held++
		return ns
	}
	return &Namespace{srv: srv, name: name}
}

// settled reports whether n is a namespace and not only a name.
func (n *Namespace) settled() bool { return n.rooms != nil }

// adopt returns the namespace of a name, held, which the first parent that matches makes if need be; nil if none does.
func (srv *Server) adopt(ctx context.Context, name string, auth json.RawMessage) (*Namespace, error) {
	srv.mu.RLock()
	parents := srv.parents
	srv.mu.RUnlock()
	for _, parent := range parents {
		if parent.family.match(ctx, name, auth) {
			return srv.child(parent, name)
		}
	}
	return nil, nil
}

func (srv *Server) child(parent *Namespace, name string) (*Namespace, error) {
	srv.mu.Lock()
	if ns := srv.namespaces[name]; ns != nil {
		ns.held++
		srv.mu.Unlock()
		return ns, nil
	}
	if srv.dynamic >= srv.config.MaxDynamicNamespaces && !srv.sweepLocked() {
		srv.mu.Unlock()
		return nil, errTooManyNamespaces
	}
	srv.dynamic++
	ns := srv.makeLocked(parent, name)
	ns.dynamic, ns.held = true, 1
	hooks := srv.onNamespace
	srv.mu.Unlock()
	ns.introduce(hooks)
	return ns, nil
}

// makeLocked makes a namespace. The caller introduces it once srv.mu is released.
func (srv *Server) makeLocked(parent *Namespace, name string) *Namespace {
	ns := newNamespace(srv, name)
	ns.parent = parent
	srv.namespaces[name] = ns
	if parent != nil {
		parent.children[ns] = struct{}{}
		ns.journal.hole = parent.journal.unstored()
	}
	return ns
}

// introduce tells the program of a new namespace and then lets clients in.
func (n *Namespace) introduce(hooks []func(*Namespace)) {
	defer close(n.ready)
	for _, f := range hooks {
		f(n)
	}
}

// parentOf returns the first parent with a pattern that a name matches. srv.mu is held.
func (srv *Server) parentOfLocked(name string) *Namespace {
	for _, parent := range srv.parents {
		if p := parent.family.pattern; p != nil && p.MatchString(name) {
			return parent
		}
	}
	return nil
}

// release ends what hold began.
func (n *Namespace) release() {
	if n.parent == nil {
		return
	}
	n.srv.mu.Lock()
	defer n.srv.mu.Unlock()
	n.held--
	n.cleanUpLocked()
}

// cleanUp forgets a namespace that a client's CONNECT made, once nobody is in it or may come back to it.
func (n *Namespace) cleanUp() {
	if n.parent == nil {
		return
	}
	n.srv.mu.Lock()
	defer n.srv.mu.Unlock()
	n.cleanUpLocked()
}

func (n *Namespace) cleanUpLocked() {
	if !n.dynamic || n.held > 0 || time.Now().Before(n.awaits) || !n.journal.idle() || n.srv.namespaces[n.name] != n {
		return
	}
	delete(n.srv.namespaces, n.name)
	delete(n.parent.children, n)
	n.parent.journal.notStored(n.journal.unstored()) // the namespace may be made anew
	n.srv.dynamic--
}

// await keeps a namespace for a session that may be recovered in it.
func (n *Namespace) await() {
	if n.parent == nil {
		return
	}
	n.srv.mu.Lock()
	defer n.srv.mu.Unlock()
	n.awaits = time.Now().Add(n.srv.config.Recovery.MaxAway)
}

// sweepLocked cleans up the namespaces that are kept for sessions that have expired, and reports whether there is room for
// one more. It looks once a second.
func (srv *Server) sweepLocked() bool {
	if now := time.Now(); now.Sub(srv.swept) >= time.Second {
		srv.swept = now
		for _, n := range srv.namespaces {
			n.cleanUpLocked()
		}
	}
	return srv.dynamic < srv.config.MaxDynamicNamespaces
}

// concrete returns the namespaces that sockets are in: n itself, or its children.
func (n *Namespace) concrete() []*Namespace {
	if n.family == nil {
		return []*Namespace{n}
	}
	n.srv.mu.RLock()
	defer n.srv.mu.RUnlock()
	return slices.Collect(maps.Keys(n.children))
}

// settle finds the namespace of a socket that has connected to a name, and waits until it may be used.
func (s *Socket) settle() error {
	if !s.ns.settled() {
		ns, err := s.conn.srv.adopt(s.Context(), s.ns.name, s.auth)
		if err != nil {
			return err
		}
		if ns == nil {
			return errInvalidNamespace
		}
		if !s.moveTo(ns) {
			ns.release()
			return fmt.Errorf("connect: %w", s.Err())
		}
	}
	select {
	case <-s.ns.ready:
		return nil
	case <-s.Context().Done():
		return context.Cause(s.Context())
	}
}

// moveTo puts a socket that was given only a name into the namespace, unless it has ended.
func (s *Socket) moveTo(ns *Namespace) bool {
	s.conn.mu.Lock() // under which the connection looks for it
	defer s.conn.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return false
	}
	s.ns = ns
	return true
}
