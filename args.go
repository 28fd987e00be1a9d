package holdpost

import (
	"encoding/json"
	"fmt"

	"github.com/holdpost/holdpost/internal/packet"
)

// Args are the arguments of an event or of an ack, still encoded. They own their memory, never change, and may be kept.
// The zero value has no arguments.
type Args struct {
	raw         [][]byte
	attachments [][]byte
}

// NewArgs returns Args of a JSON array and the binary values that its placeholders ({"_placeholder":true,"num":i}) stand
// for. The caller must not change either later.
func NewArgs(array json.RawMessage, attachments [][]byte) (Args, error) {
	raw, err := packet.Split(array, &packet.DefaultLimits)
	if err != nil {
		return Args{}, fmt.Errorf("arguments: %w", err)
	}
	return Args{raw, attachments}, nil
}

// ArgsOf returns Args of values, encoded as [Socket.Emit] does it. A value of type Args stands for all of its elements. The
// error is what encoding/json says.
func ArgsOf(values ...any) (Args, error) {
	raw, attachments, err := marshalArgs(values)
	return Args{raw, attachments}, err
}

// Len returns the number of arguments.
func (a Args) Len() int { return len(a.raw) }

// Raw returns argument i as JSON in which a binary value is a placeholder; nil when there are fewer arguments.
func (a Args) Raw(i int) json.RawMessage {
	if i < 0 || i >= len(a.raw) {
		return nil
	}
	return a.raw[i]
}

// Attachments returns the binary values that placeholders refer to by number.
func (a Args) Attachments() [][]byte { return a.attachments }

// From returns the arguments from i on.
func (a Args) From(i int) Args {
	if i >= len(a.raw) {
		return Args{}
	}
	return Args{a.raw[i:], a.attachments}
}

// Decode decodes argument 0 into dst[0], argument 1 into dst[1] and so on, with encoding/json. A nil dst skips its
// argument; arguments without a dst are ignored, a dst without an argument is left as it is. Binary values decode into
// []byte, also as elements of an any. The error is an [Error] with code invalid_argument that names the argument.
func (a Args) Decode(dst ...any) error {
	for i, d := range dst {
		if d == nil || i >= len(a.raw) {
			continue
		}
		if err := packet.Unmarshal(a.raw[i], a.attachments, d); err != nil {
			return &Error{Code: CodeInvalidArgument, Message: fmt.Sprintf("argument %d: %v", i, err)}
		}
	}
	return nil
}

// marshalArgs encodes values: JSON, and the binary values pulled out of it.
func marshalArgs(values []any) (raw, attachments [][]byte, err error) {
	if len(values) == 0 {
		return nil, nil, nil
	}
	raw = make([][]byte, 0, len(values))
	for i, v := range values {
		if a, ok := v.(Args); ok {
			if len(attachments) > 0 && len(a.attachments) > 0 { // their placeholders count from 0 too
				return nil, nil, fmt.Errorf("argument %d: binary values before Args with binary values", i)
			}
			raw = append(raw, a.raw...)
			attachments = append(attachments, a.attachments...)
			continue
		}
		var b []byte
		if b, attachments, err = packet.Marshal(v, attachments); err != nil {
			return nil, nil, fmt.Errorf("argument %d: %w", i, err)
		}
		raw = append(raw, b)
	}
	return raw, attachments, nil
}
