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

// topicRule is a pattern, and what holds for the topics that it matches.
type topicRule struct {
	*pattern
	*policy
}

// policies finds the policy of a topic: that of the topic itself, else that of the first pattern that matches.
type policies struct {
	broker      *Broker
	rest, reply *policy
	logAge      time.Duration // negative is for ever

	mu      sync.Mutex // guards the fields below
	rules   []topicRule
	known   map[string]*policy
	version uint64 // counts what was declared, and new rules
}

func newPolicies(b *Broker) (*policies, error) {
	p := &policies{broker: b, logAge: b.config.MaxAge, known: make(map[string]*policy)}
	for _, t := range b.config.Topics {
		if longer(t.MaxAge, p.logAge) {
			p.logAge = t.MaxAge
		}
	}
	var err error
	if p.rules, err = p.topicRules(b.config.Topics); err != nil {
		return nil, err
	}
	p.rest, p.reply = p.policy(TopicConfig{}), p.policy(TopicConfig{TTL: replyTTL})
	return p, nil
}

// longer says whether a topic keeps its events longer than an age, which is negative for ever.
func longer(topic, age time.Duration) bool { return age >= 0 && (topic < 0 || topic > age) }

func (p *policies) topicRules(topics []TopicConfig) ([]topicRule, error) {
	if len(topics) > maxTopicConfigs {
		return nil, fmt.Errorf("%d patterns of topics are more than %d", len(topics), maxTopicConfigs)
	}
	var rules []topicRule
	for _, t := range topics {
		if err := t.validate(p.broker.config); err != nil {
			return nil, err
		}
		if longer(t.MaxAge, p.logAge) {
			return nil, refuse("invalid_topic", "topic %q: no event is kept longer than %v while the broker is open", t.Pattern, p.logAge)
		}
		pattern := newPattern(t.Pattern)
		if pattern == nil {
			pattern = exactly(t.Pattern)
		}
		rules = append(rules, topicRule{pattern, p.policy(t)})
	}
	return rules, nil
}

// ConfigureTopics replaces Config.Topics. What it says of ages, compaction and time to live counts for events that are published from
// then on; limits that a topic exceeds already take effect with its next event. It does not wait, and changes nothing on an error: an
// [Error] of code "invalid_topic" for a configuration that makes no sense, or that keeps events longer than all did when the broker
// was opened, since others are not marked to go earlier.
func (b *Broker) ConfigureTopics(topics []TopicConfig) error {
	p := b.policies
	rules, err := p.topicRules(topics)
	if err != nil {
		return fmt.Errorf("configure topics: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = rules
	clear(p.known)
	p.version++
	return nil
}

// CheckTopics returns the error that [Broker.ConfigureTopics] would, and changes nothing.
func (b *Broker) CheckTopics(topics []TopicConfig) error {
	_, err := b.policies.topicRules(topics)
	return err
}

// of returns the policy of a topic.
func (p *policies) of(topic string) (*policy, error) {
	p.mu.Lock()
	known, version, rules := p.known[topic], p.version, p.rules
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
	found, err := p.find(topic, declared, rules)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= policiesKnown {
		clear(p.known)
	}
	if p.version == version { // else a topic was declared meanwhile, or the rules are others
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

func (p *policies) find(topic string, declared []byte, rules []topicRule) (*policy, error) {
	switch {
	case strings.HasPrefix(topic, replyPrefix):
		return p.reply, nil
	case declared == nil:
		for _, r := range rules {
			if r.match(topic) {
				return r.policy, nil
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
