package packet

import (
	"strconv"
	"unicode/utf8"
)

// AppendEvent appends an EVENT, or a BINARY_EVENT when attachments > 0. id < 0 means that no ack is asked for. The
// arguments are JSON; with attachments, the binary messages have to follow the text at once.
func AppendEvent(dst []byte, ns string, id int64, attachments int, name string, args ...[]byte) []byte {
	dst = appendHeader(dst, Event, attachments, ns, id)
	dst = AppendString(append(dst, '['), name)
	for _, arg := range args {
		dst = append(append(dst, ','), arg...)
	}
	return append(dst, ']')
}

// AppendAck appends an ACK, or a BINARY_ACK when attachments > 0.
func AppendAck(dst []byte, ns string, id int64, attachments int, args [][]byte) []byte {
	dst = append(appendHeader(dst, Ack, attachments, ns, id), '[')
	for i, arg := range args {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, arg...)
	}
	return append(dst, ']')
}

// AppendConnect appends a CONNECT with payload, a JSON object; nil for none.
func AppendConnect(dst []byte, ns string, payload []byte) []byte {
	return append(appendHeader(dst, Connect, 0, ns, -1), payload...)
}

// AppendConnectError appends a CONNECT_ERROR with payload, a JSON object.
func AppendConnectError(dst []byte, ns string, payload []byte) []byte {
	return append(appendHeader(dst, ConnectError, 0, ns, -1), payload...)
}

// AppendDisconnect appends a DISCONNECT.
func AppendDisconnect(dst []byte, ns string) []byte {
	return appendHeader(dst, Disconnect, 0, ns, -1)
}

// appendHeader appends all that stands before the JSON.
func appendHeader(dst []byte, t Type, attachments int, ns string, id int64) []byte {
	if attachments > 0 {
		t += BinaryEvent - Event // the same distance as between the two acks
	}
	dst = append(dst, '0'+byte(t))
	if attachments > 0 {
		dst = append(strconv.AppendInt(dst, int64(attachments), 10), '-')
	}
	if ns != "" && ns != "/" {
		dst = append(append(dst, ns...), ',')
	}
	if id >= 0 {
		dst = strconv.AppendInt(dst, id, 10)
	}
	return dst
}

// AppendPlaceholder appends what stands for an attachment in JSON.
func AppendPlaceholder(dst []byte, num int) []byte {
	dst = append(dst, `{"_placeholder":true,"num":`...)
	return append(strconv.AppendInt(dst, int64(num), 10), '}')
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Only what JSON requires is escaped; invalid UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	done := 0 // s[:done] is in dst
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[done:i]...), "\uFFFD"...)
				done = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[done:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		done = i
	}
	return append(append(dst, s[done:]...), '"')
}
