package queue

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxName  = 255
	maxToken = 120 // a subject of two tokens stays well below what the engine accepts

	// deadPrefix begins the topics of dead letters. A queue's name may be as long as any other, so these may be longer.
	deadPrefix = "dead/"

	// replyPrefix begins the topics of answers, which are kept for replyTTL.
	replyPrefix = "reply/"
	replyTTL    = time.Minute
)

// checkName refuses what no topic, event or queue may be called. Names are encoded before they become part of a subject, so
// the subject grammar's own characters (. * > and space) are free to use.
func checkName(code, what, name string, limit int) error {
	if name == "" {
		return refuse(code, "%s is empty", what)
	}
	if len(name) > limit {
		return refuse(code, "%s of %d bytes is longer than %d", what, len(name), limit)
	}
	if !utf8.ValidString(name) {
		return refuse(code, "%s %q is not UTF-8", what, name)
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return refuse(code, "%s %q has a control character", what, name)
	}
	return nil
}

// checkTopic refuses what can't be the name of a topic.
func (b *Broker) checkTopic(topic string) error {
	if isPattern(topic) {
		return refuse("invalid_topic", "topic %q has a *, which patterns have", topic)
	}
	return b.checkTopicOrPattern(topic)
}

func (b *Broker) checkTopicOrPattern(topic string) error {
	limit := b.config.MaxTopicBytes
	if strings.HasPrefix(topic, deadPrefix) {
		limit += len(deadPrefix)
	}
	return checkName("invalid_topic", "topic", topic, limit)
}

// token encodes a name as one token of a subject: [A-Za-z0-9_-] stand for themselves, any other byte is ~XX. What would
// get too long is hashed instead; = keeps the two apart. The real name is always in the message itself.
func token(name string) string {
	n := 0
	for i := range len(name) {
		if plain(name[i]) {
			n++
		} else {
			n += 3
		}
	}
	if n == len(name) && n <= maxToken {
		return name
	}
	if n > maxToken {
		sum := sha256.Sum256([]byte(name))
		return "=" + base32.StdEncoding.EncodeToString(sum[:20])
	}
	const hex = "0123456789ABCDEF"
	t := make([]byte, 0, n)
	for i := range len(name) {
		if c := name[i]; plain(c) {
			t = append(t, c)
		} else {
			t = append(t, '~', hex[c>>4], hex[c&15])
		}
	}
	return string(t)
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// dedupeID is what the log tells publishes apart by: ids are per topic, the log's window is not.
func dedupeID(topic, id string) string {
	b := binary.AppendUvarint(nil, uint64(len(topic)))
	b = append(b, topic...)
	b = append(b, id...)
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}
