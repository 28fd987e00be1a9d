//go:build linux

package main

import (
	"io"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestOptions(t *testing.T) {
	for _, bad := range []string{"-idle=-1", "-emitters=100000", "-duration=2h", "extra", "-nope"} {
		if code := run(t.Context(), []string{bad}, io.Discard, io.Discard); code != 2 {
			t.Errorf("%s: exit code %d, want 2", bad, code)
		}
	}
}

// A small run of everything.
func TestQuick(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs a server")
	}
	var out, complaints strings.Builder
	code := run(t.Context(), []string{"-idle=20", "-emitters=5", "-duration=100ms", "-returning=20"}, &out, &complaints)
	if lines := strings.Count(out.String(), "\n"); code != 0 || lines != 4 {
		t.Errorf("exit code %d, %d lines:\n%s%s", code, lines, out.String(), complaints.String())
	}
}
