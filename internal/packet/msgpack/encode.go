package msgpack

import (
	"slices"
	"strconv"

	"github.com/tinylib/msgp/msgp"

	"github.com/holdpost/holdpost/internal/packet"
)

// AppendEvent appends an EVENT. id < 0 means that no ack is asked for. The arguments are JSON, in which placeholders stand
// for the attachments.
func AppendEvent(dst []byte, ns string, id int64, name string, args, attachments [][]byte) []byte {
	dst = appendHeader(dst, packet.Event, ns, id, true)
	dst = msgp.AppendArrayHeader(dst, uint32(1+len(args)))
	dst = msgp.AppendString(dst, name)
	return appendArgs(dst, args, attachments)
}

// AppendAck appends an ACK.
func AppendAck(dst []byte, ns string, id int64, args, attachments [][]byte) []byte {
	dst = appendHeader(dst, packet.Ack, ns, id, true)
	dst = msgp.AppendArrayHeader(dst, uint32(len(args)))
	return appendArgs(dst, args, attachments)
}

// AppendConnect appends a CONNECT with payload, a JSON object; nil for none.
func AppendConnect(dst []byte, ns string, payload []byte) []byte {
	dst = appendHeader(dst, packet.Connect, ns, -1, payload != nil)
	if payload == nil {
		return dst // the reference takes null for a malformed payload
	}
	return appendJSON(dst, payload, nil)
}

// AppendConnectError appends a CONNECT_ERROR with payload, a JSON object.
func AppendConnectError(dst []byte, ns string, payload []byte) []byte {
	return appendJSON(appendHeader(dst, packet.ConnectError, ns, -1, true), payload, nil)
}

// AppendDisconnect appends a DISCONNECT.
func AppendDisconnect(dst []byte, ns string) []byte {
	return appendHeader(dst, packet.Disconnect, ns, -1, false)
}

// appendHeader appends all members but the value of data, which comes last if there is one.
func appendHeader(dst []byte, t packet.Type, ns string, id int64, data bool) []byte {
	members := uint32(2)
	if id >= 0 {
		members++
	}
	if data {
		members++
	}
	dst = msgp.AppendMapHeader(dst, members)
	dst = msgp.AppendInt(msgp.AppendString(dst, "type"), int(t))
	dst = msgp.AppendString(msgp.AppendString(dst, "nsp"), ns)
	if id >= 0 {
		dst = msgp.AppendInt64(msgp.AppendString(dst, "id"), id)
	}
	if data {
		dst = msgp.AppendString(dst, "data")
	}
	return dst
}

func appendArgs(dst []byte, args, attachments [][]byte) []byte {
	for _, arg := range args {
		dst = appendJSON(dst, arg, attachments)
	}
	return dst
}

// appendJSON appends a JSON value, which is valid, with attachments in the place of their placeholders.
func appendJSON(dst, raw []byte, attachments [][]byte) []byte {
	w := writer{json: raw, dst: dst, attachments: attachments}
	if len(attachments) > 0 {
		if marked, ok := packet.MarkAttachments(nil, raw, len(attachments)); ok {
			w.json = marked
		}
	}
	w.value(w.space(0))
	return w.dst
}

// A writer turns one JSON value into MessagePack. Its methods take the index of the first byte and return the one behind.
type writer struct {
	json        []byte
	dst         []byte
	attachments [][]byte
}

func (w *writer) space(i int) int {
	for i < len(w.json) && (w.json[i] == ' ' || w.json[i] == '\t' || w.json[i] == '\n' || w.json[i] == '\r') {
		i++
	}
	return i
}

func (w *writer) value(i int) int {
	switch w.json[i] {
	case '[':
		return w.container(i, 0x90, msgp.AppendArrayHeader)
	case '{':
		return w.container(i, 0x80, msgp.AppendMapHeader)
	case '"':
		return w.text(i)
	case 'n':
		w.dst = msgp.AppendNil(w.dst)
		return i + len("null")
	case 't':
		w.dst = msgp.AppendBool(w.dst, true)
		return i + len("true")
	case 'f':
		w.dst = msgp.AppendBool(w.dst, false)
		return i + len("false")
	case '#': // see packet.MarkAttachments
		end := w.literalEnd(i)
		num, _ := strconv.Atoi(string(w.json[i+1 : end]))
		w.dst = msgp.AppendBytes(w.dst, w.attachments[num])
		return end
	}
	return w.number(i)
}

// container writes an array or a map. Its size is known behind it only; mostly it fits into the byte that was left for it.
func (w *writer) container(i int, small byte, header func([]byte, uint32) []byte) int {
	start := len(w.dst)
	w.dst = append(w.dst, small)
	n := uint32(0)
	for i = w.space(i + 1); w.json[i] != ']' && w.json[i] != '}'; {
		if w.json[i] == ',' {
			i = w.space(i + 1)
		}
		if small == 0x80 {
			i = w.space(w.text(i))
			i = w.space(i + 1) // the colon
		}
		i = w.space(w.value(i))
		n++
	}
	if n < 16 {
		w.dst[start] = small | byte(n)
	} else {
		var few [5]byte
		w.dst = slices.Replace(w.dst, start, start+1, header(few[:0], n)...)
	}
	return i + 1
}

func (w *writer) text(i int) int {
	end := i + 1
	for w.json[end] != '"' {
		if w.json[end] == '\\' {
			end++
		}
		end++
	}
	w.dst = msgp.AppendString(w.dst, packet.Unquote(w.json[i+1:end]))
	return end + 1
}

// number writes an integer as one if it fits, and anything else as a double.
func (w *writer) number(i int) int {
	end := w.literalEnd(i)
	text := string(w.json[i:end])
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && text != "-0" {
		w.dst = msgp.AppendInt64(w.dst, n)
	} else if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		w.dst = msgp.AppendUint64(w.dst, n)
	} else {
		f, _ := strconv.ParseFloat(text, 64) // what is too large is infinite, as in JavaScript
		w.dst = msgp.AppendFloat64(w.dst, f)
	}
	return end
}

func (w *writer) literalEnd(i int) int {
	for i < len(w.json) && w.json[i] > ' ' && w.json[i] != ',' && w.json[i] != ']' && w.json[i] != '}' {
		i++
	}
	return i
}
