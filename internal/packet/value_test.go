package packet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"
)

type shout string

func (s shout) MarshalJSON() ([]byte, error) { return []byte(`"` + string(s) + `"`), nil }

func TestMarshal(t *testing.T) {
	a, b := []byte("a"), []byte{}
	tests := []struct {
		in   any
		want string
		att  [][]byte
	}{
		{nil, `null`, nil},
		{"a<b>&\"", `"a<b>&\""`, nil},
		{true, `true`, nil},
		{-1, `-1`, nil},
		{int8(-8), `-8`, nil},
		{int32(32), `32`, nil},
		{int64(math.MinInt64), `-9223372036854775808`, nil},
		{uint8(8), `8`, nil},
		{uint32(32), `32`, nil},
		{uint64(math.MaxUint64), `18446744073709551615`, nil},
		{1.5, `1.5`, nil},
		{json.RawMessage(` {"a" : 1}`), ` {"a" : 1}`, nil},
		{json.RawMessage(nil), `null`, nil},
		{json.Number("12"), `12`, nil},
		{time.Unix(0, 0).UTC(), `"1970-01-01T00:00:00Z"`, nil},
		{struct {
			A string `json:"a"`
			B []byte
		}{"<", a}, `{"a":"<","B":"YQ=="}`, nil},
		{map[string]int{"b": 1, "a": 2}, `{"a":2,"b":1}`, nil},
		{[]string{"<"}, `["<"]`, nil},
		{a, `{"_placeholder":true,"num":0}`, [][]byte{a}},
		{[]byte(nil), `{"_placeholder":true,"num":0}`, [][]byte{nil}},
		{[]any{1, b, []any{a, nil}}, `[1,{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1},null]]`, [][]byte{b, a}},
		{map[string]any{"z": a, "a<": []any{b}, "m": 1}, `{"a<":[{"_placeholder":true,"num":0}],"m":1,"z":{"_placeholder":true,"num":1}}`, [][]byte{b, a}},
		{[]any(nil), `null`, nil},
		{[]any{}, `[]`, nil},
		{map[string]any(nil), `null`, nil},
		{map[string]any{}, `{}`, nil},
		{"\xff", "\"\uFFFD\"", nil},
		{shout("a\xff"), "\"a\uFFFD\"", nil},
		{json.RawMessage(`"\ud800"`), `"\ud800"`, nil},
	}
	for _, tt := range tests {
		got, att, err := Marshal(tt.in, nil)
		if err != nil || string(got) != tt.want || !reflect.DeepEqual(att, tt.att) {
			t.Errorf("Marshal(%#v) = %s, %q, %v; want %s, %q", tt.in, got, att, err, tt.want, tt.att)
		}
		if valid(got, 64, 100) != nil {
			t.Errorf("Marshal(%#v) = %s, which is not JSON", tt.in, got)
		}
	}
}

func TestMarshalContinuesCounting(t *testing.T) {
	_, att, _ := Marshal([]byte("a"), nil)
	text, att, err := Marshal([]any{[]byte("b")}, att)
	if err != nil || string(text) != `[{"_placeholder":true,"num":1}]` || len(att) != 2 {
		t.Errorf("%s, %q, %v", text, att, err)
	}
}

func TestMarshalErrors(t *testing.T) {
	loop := map[string]any{}
	loop["self"] = []any{loop}
	list := []any{nil}
	list[0] = list
	for _, v := range []any{
		loop, list, make(chan int), []any{func() {}}, math.NaN(), map[string]any{"a": math.Inf(1)},
		json.RawMessage(`{`), json.RawMessage(``), json.RawMessage(`1 2`), json.RawMessage("\"\xff\""), []any{json.RawMessage(`nul`)},
	} {
		att := [][]byte{{1}}
		if text, got, err := Marshal(v, att); err == nil {
			t.Errorf("Marshal(%T) = %s", v, text)
		} else if len(got) != 1 {
			t.Errorf("Marshal(%T) kept attachments of a value that it refused", v)
		}
	}
	// What was pooled after an error is as good as new.
	if text, _, err := Marshal(1.5, nil); err != nil || string(text) != "1.5" {
		t.Error(string(text), err)
	}
}

func TestUnmarshal(t *testing.T) {
	att := [][]byte{[]byte("zero"), []byte("one")}
	const p0, p1 = `{"_placeholder":true,"num":0}`, `{"num":1,"_placeholder":true}`
	type inner struct {
		Data []byte `json:"data"`
		Text string `json:"text"`
		Any  any    `json:"any"`
	}
	tests := []struct {
		raw  string
		att  [][]byte
		dst  any
		want any
	}{
		{p0, att, new([]byte), []byte("zero")},
		{" " + p1 + "\n", att, new([]byte), []byte("one")},
		{`"b25l"`, att, new([]byte), []byte("one")},
		{`"b25l"`, nil, new([]byte), []byte("one")},
		{`null`, att, new([]byte), []byte(nil)},
		{p1, att, new(any), []byte("one")},
		{`[1,` + p0 + `,{"a":[` + p1 + `,` + p1 + `]}]`, att, new(any), []any{1.0, []byte("zero"), map[string]any{"a": []any{[]byte("one"), []byte("one")}}}},
		{`[` + p0 + `]`, att, new([]any), []any{[]byte("zero")}},
		{`{"a":` + p0 + `,"b":"x"}`, att, new(map[string]any), map[string]any{"a": []byte("zero"), "b": "x"}},
		{`{"data":` + p1 + `,"text":"{\"_placeholder\":true}","any":` + p0 + `}`, att, new(inner), inner{[]byte("one"), `{"_placeholder":true}`, "emVybw=="}},
		{`[` + p0 + `,` + p1 + `]`, att, new([][]byte), att},
		{`[1, ` + p0 + ` ,{"x":` + p1 + `}]`, att, new(json.RawMessage), json.RawMessage(`[1, "emVybw==" ,{"x":"b25l"}]`)},
		{p0, nil, new(any), map[string]any{"_placeholder": true, "num": 0.0}},
		{`{"_placeholder":1,"num":7}`, att, new(any), map[string]any{"_placeholder": 1.0, "num": 7.0}},
		{`{"_placeholder":true,"num":0,"_placeholder":false}`, att, new(json.RawMessage), json.RawMessage(`{"_placeholder":true,"num":0,"_placeholder":false}`)},
		{`"x"`, att, new(string), "x"},
		{`9007199254740993`, att, new(int64), int64(9007199254740993)},
	}
	for _, tt := range tests {
		err := Unmarshal([]byte(tt.raw), tt.att, tt.dst)
		if got := reflect.ValueOf(tt.dst).Elem().Interface(); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Unmarshal(%s) into %T = %#v, %v; want %#v", tt.raw, tt.dst, got, err, tt.want)
		}
	}
	var data []byte
	if err := Unmarshal([]byte(p0), att, &data); err != nil || &data[0] != &att[0][0] {
		t.Error("an attachment was copied on its way to a *[]byte")
	}
}

func TestUnmarshalErrors(t *testing.T) {
	att := [][]byte{[]byte("zero")}
	for _, raw := range []string{
		`{"_placeholder":true,"num":1}`, `{"_placeholder":true,"num":-1}`, `{"_placeholder":true,"num":0.5}`, `{"_placeholder":true,"num":"0"}`,
		`{"_placeholder":true,"num":1e300}`, `{"_placeholder":true}`, `{`, `nul`, `{"_placeholder":true,"num":0`,
	} {
		for _, dst := range []any{new([]byte), new(any), new(json.RawMessage), new(struct{ A any })} {
			if err := Unmarshal([]byte(raw), att, dst); err == nil {
				t.Errorf("Unmarshal(%s) into %T accepted it", raw, dst)
			}
		}
		if err := Unmarshal([]byte(`[`+raw+`]`), att, new([]any)); err == nil {
			t.Errorf("Unmarshal([%s]) into *[]any accepted it", raw)
		}
		if err := Unmarshal([]byte(`{"a":`+raw+`}`), att, new(map[string]any)); err == nil {
			t.Errorf("Unmarshal of a map of %s accepted it", raw)
		}
	}
	if err := Unmarshal([]byte(`1`), nil, nil); err == nil {
		t.Error("decoded into nothing")
	}
	if _, ok := errors.AsType[*json.UnmarshalTypeError](Unmarshal([]byte(`true`), att, new([]byte))); !ok {
		t.Error("true is no []byte")
	}
}

// A value that was marshalled, sent, decoded and unmarshalled is the value, whatever bytes are in it.
func FuzzValue(f *testing.F) {
	for _, e := range corpus(f) {
		f.Add([]byte(e.wire), "key", []byte("data"))
	}
	f.Fuzz(func(t *testing.T, raw []byte, key string, data []byte) {
		var v any
		if json.Unmarshal(raw, &v) != nil {
			v = string(bytes.ToValidUTF8(raw, []byte("\uFFFD")))
		}
		key = string(bytes.ToValidUTF8([]byte(key), []byte("\uFFFD")))
		in := []any{data, map[string]any{key: []any{data, v}}, v}
		text, att, err := Marshal(in, nil)
		if err != nil {
			return // contains itself or nests too deeply; nothing else is in reach of JSON
		}
		if len(att) != 2 || valid(text, maxDepth, len(text)) != nil {
			if depth, _ := nesting(text); depth <= maxDepth {
				t.Fatalf("%s with %d attachments", text, len(att))
			}
			return
		}
		var out any
		if err := Unmarshal(text, att, &out); err != nil {
			if bytes.Contains(text, []byte(`"_placeholder":true`)) {
				return // the value brought its own
			}
			t.Fatalf("%s: %v", text, err)
		}
		again, att2, err := Marshal(out, nil)
		if err != nil || len(att2) < 2 || len(att2) == 2 && !bytes.Equal(again, text) {
			t.Fatalf("%s came back as %s, %v", text, again, err)
		}
		var inlined any
		if err := Unmarshal(text, att, &struct{ X *any }{&inlined}); err == nil {
			t.Fatalf("a list was decoded into a struct")
		}
		if a, err := inline(text, att); err != nil || !json.Valid(a) {
			t.Fatalf("%s inlined is %s, %v", text, a, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	const event = `2["message",{"id":123456,"text":"hello, wide world","ok":true}]`
	for name, text := range map[string]string{
		"64B":    event,
		"64B+id": `217["echo","` + rep("x", 50) + `"]`,
		"1KB":    `2["message",{"list":[` + rep(event[12:len(event)-1]+",", 18) + `{}]}]`,
		"ack":    `317["ok"]`,
		"binary": `51-["up",{"_placeholder":true,"num":0}]`,
		"emoji":  `2["m","` + rep("🦊", 250) + `"]`,
	} {
		b.Run(name, func(b *testing.B) {
			d := NewDecoder(nil)
			text, att := []byte(text), []byte("data")
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				_, complete, err := d.Text(text)
				if !complete {
					_, _, err = d.Binary(att)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	arg := []byte(`{"id":123456,"text":"hello, wide world"}`)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendEvent(dst[:0], "/", 7, 0, "message", arg)
	}
}

func BenchmarkMarshal(b *testing.B) {
	for _, v := range []any{"hello, wide world", []byte("x"), struct{ ID int }{7}, map[string]any{"id": 7, "text": "hello"}} {
		b.Run(fmt.Sprintf("%T", v), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Marshal(v, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
