package queue

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
)

// String returns the offset as clients see it: "~" and base64url of the epoch (8 bytes) and the sequence (varint). The zero
// offset is "".
func (o Offset) String() string {
	if o == (Offset{}) {
		return ""
	}
	var b [8 + binary.MaxVarintLen64]byte
	binary.BigEndian.PutUint64(b[:], o.Epoch)
	n := 8 + binary.PutUvarint(b[8:], o.Seq)
	return "~" + base64.RawURLEncoding.EncodeToString(b[:n])
}

// ParseOffset reads what [Offset.String] returns. Any other text is an [Error] with code "invalid_offset".
func ParseOffset(s string) (Offset, error) {
	if s == "" {
		return Offset{}, nil
	}
	if text, ok := strings.CutPrefix(s, "~"); ok && len(text) <= 32 {
		if b, err := base64.RawURLEncoding.Strict().DecodeString(text); err == nil && len(b) > 8 {
			seq, n := binary.Uvarint(b[8:])
			o := Offset{Epoch: binary.BigEndian.Uint64(b), Seq: seq}
			if n == len(b)-8 && o.String() == s { // one spelling per offset
				return o, nil
			}
		}
	}
	if len(s) > 64 {
		s = s[:64]
	}
	return Offset{}, refuse("invalid_offset", "%q is not an offset", s)
}

// Start says where reading a topic begins: "new", "first", "last", an offset, which is after the event with that offset, or a time
// as in RFC 3339, which is with the first event that was stored then or later. "" is "new".
type Start string

const (
	StartNew   Start = "new"   // what is published from now on
	StartFirst Start = "first" // the oldest event that is kept
	StartLast  Start = "last"  // the newest event that is kept; not for a pattern
)

// After begins with the event after o. For the zero offset that is [StartFirst].
func (o Offset) After() Start {
	if o == (Offset{}) {
		return StartFirst
	}
	return Start(o.String())
}

// ParseStart accepts what a [Start] may say. Any other text is an [Error] with code "invalid_offset".
func ParseStart(s string) (Start, error) {
	_, err := Start(s).place()
	return Start(s), err
}

// String returns the text that [ParseStart] accepts.
func (s Start) String() string {
	if s == "" {
		return string(StartNew)
	}
	return string(s)
}

// place is a parsed Start: one of new, first, last, an offset or a time.
type place struct {
	fresh, first, last bool
	after              Offset
	at                 time.Time
}

func (s Start) place() (place, error) {
	switch {
	case s == "" || s == StartNew:
		return place{fresh: true}, nil
	case s == StartFirst:
		return place{first: true}, nil
	case s == StartLast:
		return place{last: true}, nil
	case s[0] == '~':
		o, err := ParseOffset(string(s))
		return place{after: o}, err
	}
	if len(s) <= 64 {
		if t, err := time.Parse(time.RFC3339, string(s)); err == nil {
			return place{at: t}, nil
		}
	} else {
		s = s[:64]
	}
	return place{}, refuse("invalid_offset", "%q is not new, first, last, an offset or an RFC 3339 time", string(s))
}
