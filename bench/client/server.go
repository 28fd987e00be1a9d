//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// server is bench/target, in a process of its own that can be killed and started again.
type server struct {
	bin  string
	addr string // of the last start
	cmd  *exec.Cmd
}

func build(ctx context.Context, dir string) (*server, error) {
	bin := filepath.Join(dir, "target")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "github.com/holdpost/holdpost/bench/target").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("build bench/target: %w\n%s", err, out)
	}
	return &server{bin: bin, addr: "127.0.0.1:0"}, nil
}

// start starts it, again at the same address.
func (s *server) start(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, s.bin, "-addr", s.addr)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a benchmark that dies does not leave servers behind
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ready struct{ Listen string }
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		s.kill()
		return fmt.Errorf("the server does not say where it listens: %w", err)
	}
	s.addr = ready.Listen
	return nil
}

func (s *server) url() string { return "http://" + s.addr }

func (s *server) pid() int { return s.cmd.Process.Pid }

// kill ends it as kill -9 does.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
}
