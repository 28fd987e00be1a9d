//go:build linux || darwin || freebsd

package app

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// When there is no file left those who connect are told so at once; when there is one again they are served.
func TestNoFilesLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int32
	listener := newReservedListener(l, func(c net.Conn) { refused.Add(1); turnAway(c) })
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String()) // the kernel accepts it
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	conns := []net.Conn{dial(), dial(), dial()}

	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var held []*os.File
	release := func() {
		for _, f := range held {
			f.Close()
		}
		held = nil
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(release)
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		held = append(held, f)
	}

	h := newHTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), slog.New(slog.DiscardHandler))
	served := make(chan struct{})
	go func() { h.Serve(listener); close(served) }()
	t.Cleanup(func() { h.Close(); <-served })
	for _, c := range conns {
		w, err := http.ReadResponse(bufio.NewReader(c), nil) // without having asked
		if err != nil || w.StatusCode != http.StatusServiceUnavailable || w.Header.Get("Retry-After") == "" {
			t.Fatalf("%v %v", w, err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("it is open still: %v", err)
		}
	}
	if n := refused.Load(); n != 3 {
		t.Errorf("%d were refused", n)
	}
	release()
	c := dial()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if w, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || w.StatusCode != 200 {
		t.Errorf("with files again: %v %v", w, err)
	}
}
