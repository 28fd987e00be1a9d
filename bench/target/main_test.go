//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestFlags(t *testing.T) {
	for arg, want := range map[string]string{
		"extra": `unexpected argument "extra"`,
		"-nope": "not defined",
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), []string{arg}, io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, %q", arg, code, stderr.String())
		}
	}
}

func TestServes(t *testing.T) {
	for _, args := range [][]string{nil, {"-recovery"}, {"-msgpack"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) { serves(t, args...) })
	}
}

func serves(t *testing.T, args ...string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, w := io.Pipe()
	defer r.Close()
	ended := make(chan int)
	go func() { ended <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), w, io.Discard) }()
	line := make([]byte, 200)
	n, err := r.Read(line)
	if err != nil || !strings.Contains(string(line[:n]), `"listen":"127.0.0.1:`) {
		t.Errorf("%q, error %v", line[:n], err)
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}
