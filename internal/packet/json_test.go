package packet

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// jsonTexts are JSON, and what is nearly JSON.
var jsonTexts = []string{
	`null`, `true`, `false`, `0`, `-0`, `1`, `-1`, `10`, `1.0`, `1e5`, `1E+5`, `1e-5`, `0.0e0`, `""`, `"a"`, `[]`, `{}`, `[1]`, `[1,2]`,
	`{"a":1}`, `{"a":1,"b":[{}]}`, ` [ 1 , 2 ] `, "\t{\"a\"\n:\r1}", `"\"\\\/\b\f\n\r\t\u00e9\ud83e\udd8a"`, `"\ud800"`, `"é世🦊"`, "\"\x7f\"",
	``, ` `, `nul`, `nulll`, `True`, `01`, `-`, `+1`, `.5`, `1.`, `1e`, `1e+`, `0x1`, `1_000`, `--1`, `NaN`, `"`, `"a`, `"\"`, `"\x"`, `"\u12"`, `"\u12G4"`,
	"\"\x00\"", "\"\x1f\"", "\"\n\"", "\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\xef\xbb\xbf1", `[`, `]`, `[1`, `[1,`, `[1,]`, `[,1]`, `[1 2]`,
	`{`, `}`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{1:1}`, `{"a" 1}`, `{"a":1 "b":2}`, `{"a":1]`, `[1}`, `[[[]]`, `[]]`, `1 2`, `1,2`, `//`, `/**/1`,
	`"abcdefg"`, `"abcdefgh"`, `"abcdefghi"`, `"abcdefg\n"`, "\"abcdefg\x01\"", "\"abcdef\x01\"", "\"\x20\x1f\x20\x20\x20\x20\x20\x20\"",
}

// nesting returns the depth of b and the number of its values, counted without the scanner's help.
func nesting(b []byte) (depth, values int) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber() // a number too large for a float64 is valid
	at := 0
	type level struct{ object, key bool }
	var stack []level
	for {
		token, err := d.Token()
		if err != nil {
			return depth, values
		}
		if delim, ok := token.(json.Delim); ok && (delim == ']' || delim == '}') {
			at--
			stack = stack[:len(stack)-1]
			continue
		}
		if n := len(stack); n > 0 && stack[n-1].object {
			if stack[n-1].key = !stack[n-1].key; stack[n-1].key {
				continue // a name is no value
			}
		}
		values++
		if delim, ok := token.(json.Delim); ok {
			at++
			depth = max(depth, at)
			stack = append(stack, level{object: delim == '{'})
		}
	}
}

// checkJSON compares the scanner with encoding/json. They may differ in two ways only: we insist on UTF-8, which
// encoding/json replaces, and on the limits, which it does not have (but for a depth of 10,000).
func checkJSON(t *testing.T, b []byte) {
	t.Helper()
	want := json.Valid(b) && utf8.Valid(b)
	if got := valid(b, maxDepth, len(b)); (got == nil) != want {
		if depth, _ := nesting(b); depth <= maxDepth {
			t.Fatalf("valid(%q) = %v, want %v", b, got, want)
		}
		return
	}
	if !want {
		return
	}
	depth, values := nesting(b)
	if err := valid(b, depth, values); err != nil {
		t.Fatalf("valid(%q) with %d levels and %d values: %v", b, depth, values, err)
	}
	if depth > 0 && valid(b, depth-1, values) == nil {
		t.Fatalf("valid(%q) with %d levels accepts %d", b, depth-1, depth)
	}
	if valid(b, depth, values-1) == nil {
		t.Fatalf("valid(%q) with %d values accepts %d", b, values-1, values)
	}
}

func TestJSON(t *testing.T) {
	for _, s := range jsonTexts {
		checkJSON(t, []byte(s))
		checkJSON(t, []byte(`{"x":[`+s+`]}`))
	}
	// Every byte value at every place of the scanner's eight byte steps.
	for c := range 256 {
		for n := range 20 {
			checkJSON(t, []byte(`"`+strings.Repeat("a", n)+string([]byte{byte(c)})+`bcdefghij"`))
		}
	}
}

// unquote and AppendString against encoding/json.
func checkString(t *testing.T, quoted []byte) {
	t.Helper()
	var want string
	if err := json.Unmarshal(quoted, &want); err != nil {
		t.Fatal(err)
	}
	if got := Unquote(quoted[1 : len(quoted)-1]); got != want {
		t.Fatalf("Unquote(%q) = %q, want %q", quoted, got, want)
	}
	var back string
	if err := json.Unmarshal(AppendString(nil, want), &back); err != nil || back != want {
		t.Fatalf("AppendString(%q) = %q, %v", want, back, err)
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range jsonTexts {
		f.Add([]byte(s))
	}
	for _, e := range corpus(f) {
		f.Add([]byte(strings.TrimLeft(e.wire, "0123456789-")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkJSON(t, b)
		if len(b) > 1 && b[0] == '"' && b[len(b)-1] == '"' && valid(b, 1, 1) == nil {
			checkString(t, b)
		}
	})
}
