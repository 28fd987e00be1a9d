package parsers

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	reference.stop()
	os.Exit(code)
}

// A child is Node with the reference's parsers.
type child struct {
	start sync.Once
	why   string // it can't be used

	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

var reference child

// need starts the child, or skips the test.
func (c *child) need(t testing.TB) {
	t.Helper()
	c.start.Do(func() {
		if _, err := exec.LookPath("node"); err != nil {
			c.why = "node is not installed"
			return
		}
		if _, err := os.Stat("../node_modules/socket.io-msgpack-parser"); err != nil {
			c.why = "the npm packages are not installed: npm ci in conformance"
			return
		}
		c.cmd = exec.Command("node", "parsers.mjs")
		c.cmd.Stderr = os.Stderr
		c.in, _ = c.cmd.StdinPipe()
		out, _ := c.cmd.StdoutPipe()
		c.out = bufio.NewReaderSize(out, 1<<20)
		if err := c.cmd.Start(); err != nil {
			c.why = err.Error()
		}
	})
	if c.why != "" {
		t.Skip(c.why)
	}
}

func (c *child) stop() {
	if c.cmd != nil && c.cmd.Process != nil {
		c.in.Close()
		c.cmd.Wait()
	}
}

// A verdict is what a parser makes of something.
type verdict struct {
	Packets []any
	Error   string
}

func (v verdict) String() string {
	b, _ := json.Marshal(v.Packets)
	if v.Error != "" {
		return fmt.Sprintf("%s, error: %s", b, v.Error)
	}
	return string(b)
}

// same reports whether two parsers agree: on the packets, and on whether there is an error behind them.
func (v verdict) same(o verdict) bool {
	return (v.Error == "") == (o.Error == "") && reflect.DeepEqual(normal(v.Packets), normal(o.Packets))
}

// ask has one of the parsers do a job.
func (c *child) ask(t testing.TB, parser string, args ...string) verdict {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	line, err := json.Marshal(append([]string{parser}, args...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("node: %v", err)
	}
	answer, err := c.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	var v verdict
	if err := json.Unmarshal(answer, &v); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return v
}

// normal makes values of both sides comparable: numbers as JavaScript has and writes them, no packets like an empty list.
func normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, _ := v.Float64()
		return normal(f)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil
		}
		return v + 0 // no negative zero
	case []byte:
		return map[string]any{"$binary": base64.StdEncoding.EncodeToString(v)}
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = normal(v[i])
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for key, member := range v {
			object[key] = normal(member)
		}
		return object
	}
	return v
}

// value decodes JSON, with binary values in the place of their placeholders.
func value(t testing.TB, raw []byte, attachments [][]byte) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	if len(attachments) > 0 {
		v = fill(v, attachments)
	}
	return v
}

func fill(v any, attachments [][]byte) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = fill(v[i], attachments)
		}
	case map[string]any:
		if num, ok := v["num"].(json.Number); ok && v["_placeholder"] == true {
			i, _ := num.Int64()
			return attachments[i]
		}
		for key := range v {
			v[key] = fill(v[key], attachments)
		}
	}
	return v
}

// A difference is a class of inputs about which we and the reference disagree on purpose.
type difference struct {
	name, why string
	example   string
	is        func(in string, ours verdict) bool
}

// compare fails the test when ours and theirs differ in a way that no class allows.
func compare(t *testing.T, in string, ours, theirs verdict, allowed []difference) {
	t.Helper()
	if ours.same(theirs) {
		return
	}
	for _, d := range allowed {
		if d.is(in, ours) {
			return
		}
	}
	t.Errorf("%q\nours   %v\ntheirs %v", in, ours, theirs)
}

// stillDifferent fails when a class has become needless, or holds more than it says.
func stillDifferent(t *testing.T, allowed []difference, decode func(in string) (ours, theirs verdict)) {
	t.Helper()
	for _, d := range allowed {
		ours, theirs := decode(d.example)
		if ours.same(theirs) {
			t.Errorf("%s: both make %v of %q", d.name, ours, d.example)
		}
		if !d.is(d.example, ours) {
			t.Errorf("%s: its example %q is not in it", d.name, d.example)
		}
	}
}
