package auth

import "strings"

// own stands in a pattern for the client's identity.
const own = "{identity}"

// symbol is a byte of a name or a pattern, or one of these.
type symbol int16

const (
	star     symbol = 256 + iota // any characters but /
	starStar                     // any characters
)

// matches tells whether a granted pattern takes in a name. The name may be a pattern itself when wild is set: its stars are
// taken in by stars at least as wide, and by nothing else. A pattern with {identity} matches nothing for a client without one.
func matches(pattern, identity, name string, wild bool) bool {
	if identity == "" && strings.Contains(pattern, own) {
		return false
	}
	if !strings.Contains(pattern, "*") && !(wild && strings.Contains(name, "*")) {
		return strings.ReplaceAll(pattern, own, identity) == name
	}
	var granted []symbol
	for i, literal := range strings.Split(pattern, own) {
		if i > 0 { // as bytes: a star in an identity is one
			granted = appendBytes(granted, identity)
		}
		granted = appendPattern(granted, literal)
	}
	asked := appendBytes(nil, name)
	if wild {
		asked = appendPattern(nil, name)
	}
	return takesIn(granted, asked)
}

// takesIn compares in time proportional to the product of the lengths, whatever the stars. reach[i] tells whether what was
// looked at of granted can take in the first i of asked.
func takesIn(granted, asked []symbol) bool {
	reach := make([]bool, len(asked)+1)
	reach[0] = true
	for _, g := range granted {
		switch g {
		case star, starStar:
			for i, a := range asked {
				if reach[i] && (g == starStar || a != '/' && a != starStar) {
					reach[i+1] = true
				}
			}
		default:
			for i := len(asked); i > 0; i-- {
				reach[i] = reach[i-1] && asked[i-1] == g
			}
			reach[0] = false
		}
	}
	return reach[len(asked)]
}

func appendBytes(dst []symbol, s string) []symbol {
	for i := range len(s) {
		dst = append(dst, symbol(s[i]))
	}
	return dst
}

func appendPattern(dst []symbol, s string) []symbol {
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "**"):
			dst = append(dst, starStar)
			i++
		case s[i] == '*':
			dst = append(dst, star)
		default:
			dst = append(dst, symbol(s[i]))
		}
	}
	return dst
}
