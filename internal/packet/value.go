package packet

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"
)

// marshalDepth ends the walk of a value that contains itself.
const marshalDepth = 1000

var errCycle = errors.New("nested too deeply, or contains itself")

// Marshal encodes v as the JSON of one argument. It is encoding/json without HTML escaping, except that a []byte, even a
// nil one, becomes a placeholder and is appended to attachments when it is v itself or sits in []any and map[string]any
// trees; elsewhere, in a struct for example, it is base64 as ever. The members of a map are visited in sorted order.
// Attachments are not copied.
func Marshal(v any, attachments [][]byte) (text []byte, att [][]byte, err error) {
	m := marshaler{attachments: attachments}
	if text, err = m.append(nil, v, 0); err != nil {
		return nil, attachments, err
	}
	return text, m.attachments, nil
}

type marshaler struct {
	attachments [][]byte
}

func (m *marshaler) append(dst []byte, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case string:
		return AppendString(slices.Grow(dst, len(v)+2), v), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int32:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case uint32:
		return strconv.AppendUint(dst, uint64(v), 10), nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), nil
	case []byte:
		dst = AppendPlaceholder(dst, len(m.attachments))
		m.attachments = append(m.attachments, v)
		return dst, nil
	case json.RawMessage:
		return appendRaw(dst, v)
	case []any:
		return m.list(dst, v, depth)
	case map[string]any:
		return m.object(dst, v, depth)
	}
	return appendJSON(dst, v)
}

func (m *marshaler) list(dst []byte, list []any, depth int) ([]byte, error) {
	if list == nil {
		return append(dst, "null"...), nil
	}
	if depth == marshalDepth {
		return nil, errCycle
	}
	dst = append(dst, '[')
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = m.append(dst, v, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func (m *marshaler) object(dst []byte, object map[string]any, depth int) ([]byte, error) {
	if object == nil {
		return append(dst, "null"...), nil
	}
	if depth == marshalDepth {
		return nil, errCycle
	}
	dst = append(dst, '{')
	for i, key := range slices.Sorted(maps.Keys(object)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, key), ':')
		var err error
		if dst, err = m.append(dst, object[key], depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// appendRaw appends what claims to be JSON already.
func appendRaw(dst []byte, raw json.RawMessage) ([]byte, error) {
	if raw == nil {
		return append(dst, "null"...), nil
	}
	if err := valid(raw, maxDepth, len(raw)); err != nil {
		return nil, fmt.Errorf("raw JSON: %w", err)
	}
	return append(dst, raw...), nil
}

// encoders keep their buffers: a json.Encoder allocates more than it writes.
var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.json = json.NewEncoder(&e.buf)
	e.json.SetEscapeHTML(false)
	return e
}}

type encoder struct {
	buf  bytes.Buffer
	json *json.Encoder
}

func appendJSON(dst []byte, v any) ([]byte, error) {
	e := encoders.Get().(*encoder)
	e.buf.Reset()
	if err := e.json.Encode(v); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(e.buf.Bytes(), []byte{'\n'})
	if !utf8.Valid(text) { // a Marshaler's own text is taken as it is
		text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
	}
	dst = append(dst, text...)
	if e.buf.Cap() <= 64<<10 {
		encoders.Put(e)
	}
	return dst, nil
}

// Unmarshal decodes raw, the JSON of one argument, into dst. It is encoding/json, except that with attachments their
// placeholders are filled in: a *[]byte takes one directly; *any, *[]any and *map[string]any receive []byte in their
// place; for every other target a placeholder reads as a base64 string, which is what encoding/json fills a []byte with.
// What a *[]byte or a tree receives is the attachment itself, not a copy.
func Unmarshal(raw []byte, attachments [][]byte, dst any) error {
	if len(attachments) == 0 {
		return json.Unmarshal(raw, dst)
	}
	switch dst := dst.(type) {
	case *[]byte:
		return unmarshalBytes(raw, attachments, dst)
	case *any:
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return err
		}
		v, err := fill(v, attachments)
		if err == nil {
			*dst = v
		}
		return err
	case *[]any:
		if err := json.Unmarshal(raw, dst); err != nil {
			return err
		}
		_, err := fill(*dst, attachments)
		return err
	case *map[string]any:
		if err := json.Unmarshal(raw, dst); err != nil {
			return err
		}
		return fillMap(*dst, attachments)
	}
	text, err := inline(raw, attachments)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, dst)
}

// unmarshalBytes hands out the attachment itself if raw is nothing but its placeholder.
func unmarshalBytes(raw []byte, attachments [][]byte, dst *[]byte) error {
	if err := valid(raw, maxDepth, len(raw)); err != nil {
		return err
	}
	found := -1
	rest, at := placeholders(nil, raw, len(attachments), func(dst []byte, num int) []byte {
		found = num
		return append(dst, '#') // cannot stand outside a string in valid JSON
	})
	if at >= 0 {
		return errPlaceholder
	}
	if found >= 0 && string(bytes.TrimSpace(rest)) == "#" {
		*dst = attachments[found]
		return nil
	}
	return json.Unmarshal(raw, dst)
}

var errPlaceholder = errors.New("placeholder names no attachment")

// inline replaces placeholders by base64 strings.
func inline(raw []byte, attachments [][]byte) ([]byte, error) {
	if err := valid(raw, maxDepth, len(raw)); err != nil {
		return nil, err
	}
	text, at := placeholders(nil, raw, len(attachments), func(dst []byte, num int) []byte {
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, attachments[num])
		return append(dst, '"')
	})
	if at >= 0 {
		return nil, errPlaceholder
	}
	return text, nil
}

// fill puts attachments in the place of their placeholders, in a tree that encoding/json made.
func fill(v any, attachments [][]byte) (any, error) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			var err error
			if v[i], err = fill(v[i], attachments); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		if v["_placeholder"] == true {
			num, ok := v["num"].(float64)
			if !ok || num < 0 || num >= float64(len(attachments)) || num != float64(int(num)) {
				return nil, errPlaceholder
			}
			return attachments[int(num)], nil
		}
		return v, fillMap(v, attachments)
	}
	return v, nil
}

func fillMap(object map[string]any, attachments [][]byte) error {
	for key, v := range object {
		filled, err := fill(v, attachments)
		if err != nil {
			return err
		}
		object[key] = filled
	}
	return nil
}
