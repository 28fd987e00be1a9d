package app

import (
	"bytes"
	"testing"
)

func TestTablesFitTheTerminal(t *testing.T) {
	const table = "TOPIC   QUEUE\norders  é234567\n"
	for width, want := range map[int]string{
		0: table, 100: table, 15: table, 14: "TOPIC   QUEUE\norders  é2345…\n", 1: "…\n…\n",
	} {
		if got := fit(table, width); got != want {
			t.Errorf("%d characters: %q, want %q", width, got, want)
		}
	}
	if width := terminalWidth(new(bytes.Buffer)); width != 0 {
		t.Errorf("a buffer has lines of %d", width)
	}
}
