package queue

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	maxTopicConfigs = 256
	policiesKnown   = 16_384 // topics whose policy is kept in memory
)

// TopicConfig says how the topics that match a pattern are kept. In [Broker.CreateTopic] the pattern is the name of one topic.
type TopicConfig struct {
	Pattern string // * stands for any characters but /, ** for any characters

	// MustExist refuses, with [ErrNotFound], to publish to a topic that was not created by [Broker.CreateTopic].
	MustExist bool

	MaxAge    time.Duration // events are kept this long; 0 is Config.MaxAge, negative is for ever
	MaxEvents int64         // and while the topic has no more than so many; 0 is no limit
	MaxBytes  int64         // and so many bytes of names, arguments and attachments; 0 is no limit

	// Refuse refuses, with an [Error] of code "topic_full", what would exceed MaxEvents or MaxBytes. Else the oldest events
	// are dropped, and readers that have not seen them are told by a [Gap].
	Refuse bool

	Compact bool          // of the events with the same key only the last is kept, which is no loss
	TTL     time.Duration // of events that are published without one; 0 is none

	MaxEventBytes int           // 0 is Config.MaxEventBytes, which is also the most
	DedupeWindow  time.Duration // at least Config.DedupeWindow, which is also what 0 means
}

// Validate returns what is wrong with c, for a broker with the default limits, as an [Error] of code "invalid_topic".
func (c TopicConfig) Validate() error { return c.validate(Config{}.withDefaults()) }

func (c TopicConfig) validate(most Config) error {
	if err := checkName("invalid_topic", "pattern", c.Pattern, maxName); err != nil {
		return err
	}
	return c.check("invalid_topic", most)
}

func (c TopicConfig) check(code string, most Config) error {
	switch {
	case c.MaxEvents < 0 || c.MaxBytes < 0 || c.TTL < 0 || c.MaxEventBytes < 0 || c.DedupeWindow < 0:
		return refuse(code, "topic %q: a limit is negative", c.Pattern)
	case c.MaxEventBytes > most.MaxEventBytes:
		return refuse(code, "topic %q: events of %d bytes are larger than the %d of the broker", c.Pattern, c.MaxEventBytes, most.MaxEventBytes)
	case c.Refuse && c.MaxEvents == 0 && c.MaxBytes == 0:
		return refuse(code, "topic %q: it has no limit at which events could be refused", c.Pattern)
	}
	return nil
}

// policy is what holds for one topic.
type policy struct {
	TopicConfig
	declared bool
	keep     time.Duration // less than the log keeps; 0 is as long as that
}

func (p *policy) limited() bool { return p.MaxEvents > 0 || p.MaxBytes > 0 }

// policies finds the policy of a topic: that of the topic itself, else that of the first pattern that matches.
type policies struct {
	broker      *Broker
	patterns    []*pattern
	matched     []*policy // of the topics that match
	rest, reply *policy
	logAge      time.Duration // negative is for ever

	mu      sync.Mutex // guards the fields below
	known   map[string]*policy
	version uint64 // counts what was declared
}

func newPolicies(b *Broker) (*policies, error) {
	c := b.config
	p := &policies{broker: b, logAge: c.MaxAge, known: make(map[string]*policy)}
	if len(c.Topics) > maxTopicConfigs {
		return nil, fmt.Errorf("%d patterns of topics are more than %d", len(c.Topics), maxTopicConfigs)
	}
	for _, t := range c.Topics {
		if err := t.validate(c); err != nil {
			return nil, err
		}
		pattern := newPattern(t.Pattern)
		if pattern == nil {
			pattern = exactly(t.Pattern)
		}
		p.patterns = append(p.patterns, pattern)
		if t.MaxAge < 0 || p.logAge >= 0 && t.MaxAge > p.logAge {
			p.logAge = t.MaxAge
		}
	}
	for _, t := range c.Topics {
		p.matched = append(p.matched, p.policy(t))
	}
	p.rest, p.reply = p.policy(TopicConfig{}), p.policy(TopicConfig{TTL: replyTTL})
	return p, nil
}

// of returns the policy of a topic.
func (p *policies) of(topic string) (*policy, error) {
	p.mu.Lock()
	known, version := p.known[topic], p.version
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	var declared []byte
	if p.broker.index.Declared() > 0 {
		var err error
		if _, declared, err = p.broker.index.Topic(topic); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	found, err := p.find(topic, declared)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= policiesKnown {
		clear(p.known)
	}
	if p.version == version { // else a topic was declared meanwhile
		p.known[topic] = found
	}
	return found, nil
}

// forget is called after a topic was declared.
func (p *policies) forget(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, topic)
	p.version++
}

func (p *policies) find(topic string, declared []byte) (*policy, error) {
	switch {
	case strings.HasPrefix(topic, replyPrefix):
		return p.reply, nil
	case declared == nil:
		for i, pattern := range p.patterns {
			if pattern.match(topic) {
				return p.matched[i], nil
			}
		}
		return p.rest, nil
	}
	var t TopicConfig
	if err := json.Unmarshal(declared, &t); err != nil {
		return nil, fmt.Errorf("configuration of topic %q: %w", topic, err)
	}
	found := p.policy(t)
	found.declared = true
	return found, nil
}

// policy fills in what a configuration leaves to the broker's.
func (p *policies) policy(t TopicConfig) *policy {
	c := p.broker.config
	if t.MaxAge == 0 {
		t.MaxAge = c.MaxAge
	}
	if t.MaxEventBytes == 0 {
		t.MaxEventBytes = c.MaxEventBytes
	}
	t.DedupeWindow = max(t.DedupeWindow, c.DedupeWindow)
	made := &policy{TopicConfig: t}
	if t.MaxAge > 0 && (p.logAge < 0 || t.MaxAge < p.logAge) {
		made.keep = t.MaxAge
	}
	return made
}

// rule is what the index has to know of a topic.
func (p *policies) rule(topic string) (keep time.Duration, compact bool) {
	made, err := p.of(topic)
	if err != nil {
		p.broker.log.Error("policy of a topic", "topic", topic, "cause", err)
		return 0, false
	}
	return made.keep, made.Compact
}
