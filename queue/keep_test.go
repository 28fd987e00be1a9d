package queue_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

// What a program keeps is there for the next one, whatever retention does with events.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	long := "a/" + strings.Repeat("ü", 127)
	for _, k := range []struct{ name, value string }{{"a/1", "first"}, {"a/1", "second"}, {"a/2", ""}, {long, "long"}, {"b/1", "other"}, {"a/gone", "x"}} {
		if err := n.Keep(t.Context(), k.name, []byte(k.value)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is nothing any more
		if err := n.Keep(t.Context(), "a/gone", nil); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		kept, err := n.Kept(t.Context(), "a/")
		if err != nil || fmt.Sprintf("%s", kept) != fmt.Sprintf("%s", map[string]string{"a/1": "second", "a/2": "", long: "long"}) {
			t.Errorf("%q %v", kept, err)
		}
		all, err := n.Kept(t.Context(), "")
		if names := slices.Sorted(maps.Keys(all)); err != nil || len(names) != 4 || names[3] != "b/1" {
			t.Errorf("%q %v", names, err)
		}
	}
	check()
	n.stop()
	n = open(t, dir)
	check()

	for name, code := range map[string]string{"": "invalid_name", "a\nb": "invalid_name", strings.Repeat("x", 510): "", strings.Repeat("x", 511): "invalid_name"} {
		if err := n.Keep(t.Context(), name, []byte("x")); queue.Code(err) != code {
			t.Errorf("%.10q of %d bytes: %v", name, len(name), err)
		}
	}
	for size, code := range map[int]string{1_000_000: "", 1_000_001: "too_large"} {
		if err := n.Keep(t.Context(), "size", make([]byte, size)); queue.Code(err) != code {
			t.Errorf("%d bytes: %v, want %q", size, err, code)
		}
	}
	n.stop()
	if err := n.Keep(t.Context(), "a", []byte("x")); queue.Code(err) != "closed" {
		t.Errorf("a closed broker keeps: %v", err)
	}
	if _, err := n.Kept(t.Context(), ""); queue.Code(err) != "closed" {
		t.Errorf("a closed broker tells: %v", err)
	}
}
