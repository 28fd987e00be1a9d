//go:build linux

package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"testing"
)

// TestMain is also the process that the program starts of itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "crowd" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestEndure(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs servers")
	}
	for _, c := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"restart", "-clients", "20", "-topics", "5", "-rate", "20"}, 0, `(?s)^20 clients connected in .*\ndrained in .*\nall clients back .*\nprocessor time .*\nwithin the server, .*\n.*\n[1-9][0-9]* events were to arrive, 0 are missing\n$`},
		{[]string{"soak", "-clients", "10", "-minutes", "0.05", "-every", "1s"}, 0, `(?s)^ +minute .*\n( +0\.[0-9].* arrived: .*\n)+$`},
		{[]string{"herd", "-clients", "40", "-missed", "20", "-rate", "100"}, 0, `(?s)^800 events published for 40 clients.*\nbefore .*stored: [1-9].*others: [1-9].*\nmeanwhile .*\nall back .*once and in order.*\nprocessor time .*\nwithin the server, .*\n$`},
		{[]string{"rest"}, 64, `^$`},
		{[]string{"soak", "-clients", "0"}, 64, `^$`},
		{[]string{"soak", "now"}, 64, `^$`},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), append(c.args, dirFlag(t, c.code)...), &stdout, &stderr); code != c.code || !regexp.MustCompile(c.out).Match(stdout.Bytes()) {
			t.Errorf("%q: %d\n%s%s", c.args, code, &stdout, &stderr)
		}
	}
}

// dirFlag keeps what runs in a directory of the test.
func dirFlag(t *testing.T, code int) []string {
	if code != 0 {
		return nil
	}
	return []string{"-dir", t.TempDir()}
}
