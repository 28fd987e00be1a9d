//go:build linux

package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/holdpost/holdpost/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-quick", "-scenarios", "emit8,idle", "-peers", "npm"}, io.Discard)
	if err != nil || o.passes != 1 || len(o.scenarios) != 2 || o.scenarios[0].name != "emit8" || o.peers[0] != "npm" {
		t.Errorf("%+v, error %v", o, err)
	}
	for _, bad := range []string{"-peers=other", "-peers=npm,npm", "-peers=", "-scenarios=none", "-passes=-1", "-passes=1000", "extra", "-nope"} {
		if code := run(t.Context(), []string{bad}, io.Discard, io.Discard); code != 2 {
			t.Errorf("%s: exit code %d, want 2", bad, code)
		}
	}
}

func TestAckIndex(t *testing.T) {
	if i, err := ackIndex([]byte(`3107["x"]`), 8); i != 7 || err != nil {
		t.Errorf("index %d, error %v", i, err)
	}
	for _, bad := range []string{"", "3", "2107[]", "3108[]", "3099[]", "3-10[]", `31["x"]`} {
		if _, err := ackIndex([]byte(bad), 8); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestEventNumber(t *testing.T) {
	if n, err := eventNumber([]byte(`2["msg","00000042abc"]`), "abc"); n != 42 || err != nil {
		t.Errorf("number %d, error %v", n, err)
	}
	for _, bad := range []string{``, `2["msg","0000004xabc"]`, `2["msg","00000042abd"]`, `2["msg","00000042abc"]x`, `2["mzg","00000042abc"]`} {
		if _, err := eventNumber([]byte(bad), "abc"); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.0123: "0.0123", 0.5: "0.500", 9.876: "9.88", 99.94: "99.9", 99.96: "100", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -0.5: "-0.500",
	} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	o, err := parseOptions([]string{"-scenarios", "handshake,emit1"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r := newReport(o, map[string]*build{"holdpost": {}, "npm": {}})
	for _, cpu := range []float64{5, 7, 6} {
		r.add(o.scenarios[0], "holdpost", figures{"cpu": 80 + cpu})
		r.add(o.scenarios[1], "holdpost", figures{"cpu": cpu})
		r.add(o.scenarios[1], "npm", figures{"cpu": 2 * cpu})
	}
	r.finish()
	if len(r.Rows) != 2 {
		t.Fatalf("%d rows, want 2: only those with a figure", len(r.Rows))
	}
	if h := r.Rows[0]; h.Ratio != nil || h.Met == nil || *h.Met {
		t.Errorf("handshake: %+v", h)
	}
	if e := r.Rows[1]; e.Ratio == nil || *e.Ratio != 0.5 || e.Met == nil || !*e.Met {
		t.Errorf("emit1: %+v", e)
	}
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"86.0 (85.0–87.0)", "| NO", "6.00 (5.00–7.00)", "| 0.50", "≤ 0.6 ×", "| yes"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}
