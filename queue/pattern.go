package queue

import (
	"regexp"
	"strings"
)

// pattern matches topics: * stands for any characters but /, ** for any characters. No topic has a * in its name.
type pattern struct {
	prefix string // what comes before the first *
	rest   string // from there on
	re     *regexp.Regexp
}

func isPattern(topic string) bool { return strings.Contains(topic, "*") }

// exactly matches one topic.
func exactly(topic string) *pattern { return &pattern{prefix: topic} }

// newPattern returns nil for the name of a topic.
func newPattern(s string) *pattern {
	i := strings.IndexByte(s, '*')
	if i < 0 {
		return nil
	}
	p := &pattern{prefix: s[:i], rest: s[i:]}
	if p.rest != "*" && p.rest != "**" {
		quoted := strings.NewReplacer(`\*\*`, `.*`, `\*`, `[^/]*`).Replace(regexp.QuoteMeta(p.rest))
		p.re = regexp.MustCompile(`^` + quoted + `$`) // no name has a line break
	}
	return p
}

func (p *pattern) match(topic string) bool {
	rest, ok := strings.CutPrefix(topic, p.prefix)
	switch {
	case !ok:
		return false
	case p.rest == "":
		return rest == ""
	case p.rest == "**":
		return true
	case p.rest == "*":
		return !strings.Contains(rest, "/")
	default:
		return p.re.MatchString(rest)
	}
}
