package auth

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Action is what somebody wants to do with something that has a name.
type Action string

// The actions, with what their names are.
const (
	Join      Action = "join"      // a room: be in it, and see who else is
	Send      Action = "send"      // a room: emit an event to those in it
	Subscribe Action = "subscribe" // a topic or a pattern: get its events, read its history, see who is subscribed
	Publish   Action = "publish"   // a topic
	Work      Action = "work"      // a shared queue: take events from it
	Inbox     Action = "inbox"     // an identity: get what was published to it. Its own needs no permission
	Manage    Action = "manage"    // no name: what the API does besides
)

// maxPatterns bounds the patterns of one action, and maxPattern their bytes.
const (
	maxPatterns = 256
	maxPattern  = 512
)

// Permissions are what somebody may do: for each action the patterns of the names. The zero value allows nothing.
type Permissions struct {
	Join      []string `json:"join,omitempty"`
	Send      []string `json:"send,omitempty"`
	Subscribe []string `json:"subscribe,omitempty"`
	Publish   []string `json:"publish,omitempty"`
	Work      []string `json:"work,omitempty"`

	// Manage is for API keys alone: a token that claims it is refused.
	Manage bool `json:"manage,omitempty"`
}

// All returns the permissions for everything.
func All() Permissions {
	every := []string{"**"}
	return Permissions{Join: every, Send: every, Subscribe: every, Publish: every, Work: every, Manage: true}
}

// Validate returns what is wrong with a pattern, or that there are too many.
func (p *Permissions) Validate() error {
	for action, patterns := range p.lists {
		if len(patterns) > maxPatterns {
			return fmt.Errorf("%s: more than %d patterns", action, maxPatterns)
		}
		for _, pattern := range patterns {
			switch {
			case pattern == "":
				return fmt.Errorf("%s: a pattern is empty", action)
			case len(pattern) > maxPattern:
				return fmt.Errorf("%s: a pattern is longer than %d bytes", action, maxPattern)
			case !plain(pattern):
				return fmt.Errorf("%s: pattern %q has control characters or is not UTF-8", action, pattern)
			}
		}
	}
	return nil
}

// lists yields the patterns by action.
func (p *Permissions) lists(yield func(Action, []string) bool) {
	_ = yield(Join, p.Join) && yield(Send, p.Send) && yield(Subscribe, p.Subscribe) && yield(Publish, p.Publish) && yield(Work, p.Work)
}

// allow tells whether the permissions of somebody with this identity, "" for nobody in particular, have an action.
func (p *Permissions) allow(identity string, action Action, name string) bool {
	switch action {
	case Manage:
		return p.Manage
	case Inbox:
		return identity != "" && name == identity
	}
	for a, patterns := range p.lists {
		if a == action {
			return slices.ContainsFunc(patterns, func(pattern string) bool {
				return matches(pattern, identity, name, action == Subscribe)
			})
		}
	}
	return false
}

func plain(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }
