//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const patience = 2 * time.Minute

func build(ctx context.Context, binary string) error {
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/holdpost/holdpost/cmd/holdpost").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

const anyPort = "127.0.0.1:0"

// server is the binary on one data directory. It keeps its addresses over restarts.
type server struct {
	binary, dir string
	listen, api string
	env         []string
	cmd         *exec.Cmd
}

func newServer(o *options, name string) *server {
	return &server{binary: o.binary, dir: filepath.Join(o.dir, name), listen: anyPort, api: anyPort}
}

// start returns once the server is ready.
func (s *server) start(ctx context.Context) error {
	s.cmd = exec.Command(s.binary, "serve", "--dev", "--listen", s.listen, "--internal-listen", s.api, "--data-dir", s.dir, "--log-level", "warn", "--json")
	s.cmd.Env = append(append(os.Environ(), "HOLDPOST_LIMITS_CONNECTIONS_PER_ADDRESS=-1"), s.env...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	var at struct{ Listen, Internal string }
	if err := json.NewDecoder(out).Decode(&at); err != nil {
		s.kill()
		return fmt.Errorf("the server did not start: %w", err)
	}
	if s.listen == anyPort { // later starts keep them, while others publish to the second
		s.listen, s.api = at.Listen, at.Internal
	}
	return nil
}

// stop has it end in good order, and tells how long that took.
func (s *server) stop() (time.Duration, error) {
	start := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	err := s.cmd.Wait()
	return time.Since(start), err
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

var publishes = http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: publishing}}

// publish stores one event, and tries again under the same id while the server is away.
func (s *server) publish(ctx context.Context, topic string, n int) error {
	body, err := json.Marshal(map[string]any{"topic": topic, "event": "e", "id": fmt.Sprintf("%s-%d", topic, n), "args": []any{n, time.Now().UnixNano()}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		response, err := publishes.Post("http://"+s.api+"/v1/publish", "application/json", bytes.NewReader(body))
		if err == nil {
			text, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			if response.StatusCode < 500 {
				return fmt.Errorf("publish: %s %s", response.Status, text)
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
