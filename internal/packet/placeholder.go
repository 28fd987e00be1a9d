package packet

import "strconv"

// level is an array or object that placeholders has open.
type level struct {
	object      bool
	placeholder bool // its member _placeholder is true
	member      byte // which member comes next: one of the constants below
	num         int  // its member num, -1 if that is missing or no index
	start       int  // of the object in the output
}

const (
	otherMember = iota
	placeholderMember
	numMember
)

// placeholders walks the valid JSON in b and looks at each placeholder: an object whose member _placeholder is true
// (Socket.IO v5, packet encoding). Its num must be an integer in [0, n), written without fraction or exponent; of
// members that occur twice the last one counts, as in JavaScript. at is -1, or the offset behind the first placeholder
// that breaks the rule.
//
// With replace, b is copied to dst on the way and replace appends what stands for a placeholder.
func placeholders(dst, b []byte, n int, replace func(dst []byte, num int) []byte) (out []byte, at int) {
	var few [16]level
	stack := few[:0]
	copied := 0 // b[:copied] is in dst
	for i := 0; i < len(b); {
		start := i
		switch c := b[i]; c {
		case '{', '[':
			i++
			if replace != nil {
				dst = append(dst, b[copied:start]...)
				copied = start
			}
			if len(stack) > 0 {
				stack[len(stack)-1].take(nil)
			}
			stack = append(stack, level{object: c == '{', num: -1, start: len(dst)})
			continue
		case '}', ']':
			i++
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if !top.placeholder {
				continue
			}
			if top.num < 0 || top.num >= n {
				return dst, i
			}
			if replace != nil {
				dst = replace(dst[:top.start], top.num)
				copied = i
			}
			continue
		case ' ', '\t', '\n', '\r', ',', ':':
			i++
			continue
		case '"':
			i = stringEnd(b, i)
		default:
			for i < len(b) && b[i] > ' ' && b[i] != ',' && b[i] != '}' && b[i] != ']' {
				i++
			}
		}
		if len(stack) == 0 {
			continue
		}
		top := &stack[len(stack)-1]
		if top.object && b[start] == '"' && isKey(b, i) {
			top.member = memberOf(b[start+1 : i-1])
		} else {
			top.take(b[start:i])
		}
	}
	if replace != nil {
		dst = append(dst, b[copied:]...)
	}
	return dst, -1
}

// MarkAttachments appends raw, which is valid JSON, with "#" and a number in the place of each placeholder. A "#" stands
// nowhere else outside of a string. It reports false for a placeholder that names none of n attachments.
func MarkAttachments(dst, raw []byte, n int) ([]byte, bool) {
	dst, at := placeholders(dst, raw, n, func(dst []byte, num int) []byte {
		return strconv.AppendInt(append(dst, '#'), int64(num), 10)
	})
	return dst, at < 0
}

// take notes the value of the member at hand; nil stands for an array or object.
func (l *level) take(value []byte) {
	switch l.member {
	case placeholderMember:
		l.placeholder = string(value) == "true"
	case numMember:
		l.num = index(value)
	}
	l.member = otherMember
}

// index reads a small non-negative integer; -1 if it is anything else.
func index(b []byte) int {
	if len(b) == 0 || len(b) > 9 || digits(b, 0) < len(b) {
		return -1
	}
	n := 0
	for _, c := range b {
		n = n*10 + int(c-'0')
	}
	return n
}

// stringEnd returns the index behind the valid JSON string that begins at b[i].
func stringEnd(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// isKey tells whether the string that ends at b[i] is the name of a member.
func isKey(b []byte, i int) bool {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i < len(b) && b[i] == ':'
}

func memberOf(key []byte) byte {
	if len(key) > 6*len("_placeholder") { // even with each character escaped
		return otherMember
	}
	for _, c := range key {
		if c == '\\' {
			key = []byte(Unquote(key))
			break
		}
	}
	switch string(key) {
	case "_placeholder":
		return placeholderMember
	case "num":
		return numMember
	}
	return otherMember
}
