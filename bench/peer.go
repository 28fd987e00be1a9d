//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdpost/holdpost/bench/load"
)

// build is a peer that is ready to be started.
type build struct {
	name    string
	version string
	argv    []string
}

// prepare builds bench/target, or installs the npm server from its lock file.
func prepare(ctx context.Context, name, tmp string) (*build, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	if name == "holdpost" {
		bin := filepath.Join(tmp, "target")
		if _, err := output(ctx, root, "go", "build", "-o", bin, "./bench/target"); err != nil {
			return nil, err
		}
		version, err := output(ctx, root, "go", "env", "GOVERSION")
		return &build{name: name, version: version, argv: []string{bin}}, err
	}
	dir := filepath.Join(root, "bench", "npm")
	node, err := output(ctx, dir, "node", "--version")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "socket.io")); errors.Is(err, os.ErrNotExist) {
		if _, err := output(ctx, dir, "npm", "ci", "--no-audit", "--no-fund"); err != nil {
			return nil, err
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "node_modules", "socket.io", "package.json"))
	if err != nil {
		return nil, err
	}
	var pkg struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(b, &pkg); err != nil {
		return nil, err
	}
	return &build{
		name:    name,
		version: "socket.io " + pkg.Version + ", node " + node,
		argv:    []string{"node", "--expose-gc", filepath.Join(dir, "server.mjs")},
	}, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	mod, err := output(ctx, "", "go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	root := filepath.Dir(mod)
	if _, err := os.Stat(filepath.Join(root, "bench", "target")); err != nil {
		return "", errors.New("run it inside the checkout")
	}
	return root, nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// peer is a running server.
type peer struct {
	addr string
	pid  int

	cmd   *exec.Cmd
	lines chan []byte // its standard output; closed when it ends
}

const answerTime = 20 * time.Second

func (b *build) start(ctx context.Context, scenario string, o options) (*peer, error) {
	args := append(b.argv[1:len(b.argv):len(b.argv)], "-addr", "127.0.0.1:0")
	if o.recovery {
		args = append(args, "-recovery")
	}
	if o.dir != "" {
		args = append(args, "-dir", o.dir)
	}
	if o.profile != "" && b.name == "holdpost" {
		args = append(args, "-cpuprofile", filepath.Join(o.profile, scenario+".prof"))
	}
	cmd := exec.CommandContext(ctx, b.argv[0], args...)
	cmd.Stderr = os.Stderr
	// A benchmark that dies does not leave servers behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &peer{cmd: cmd, pid: cmd.Process.Pid, lines: make(chan []byte, 16)}
	go p.readLines(out) // ends with the process, which stop waits for
	line, err := p.line()
	var ready struct {
		Listen string `json:"listen"`
	}
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil || ready.Listen == "" {
		p.cmd.Process.Kill()
		return nil, errors.Join(fmt.Errorf("start %s: no {\"listen\":…} line, but %q", b.name, line), err, p.stop())
	}
	p.addr = ready.Listen
	return p, nil
}

func (p *peer) readLines(r io.Reader) {
	defer close(p.lines)
	for s := bufio.NewScanner(r); s.Scan(); {
		select {
		case p.lines <- bytes.Clone(s.Bytes()):
		default: // nobody asked for that much
		}
	}
}

func (p *peer) line() ([]byte, error) {
	select {
	case b, ok := <-p.lines:
		if !ok {
			return nil, errors.New("the server ended")
		}
		return b, nil
	case <-time.After(answerTime):
		return nil, errors.New("no answer from the server")
	}
}

// stop ends the process: gently, so that a profile can be written, but not for long.
func (p *peer) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(5*time.Second, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	for range p.lines { // Wait may be called only once all was read
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// kill ends the process as kill -9 does.
func (p *peer) kill() error {
	p.cmd.Process.Kill()
	return p.stop()
}

// collected has the server collect its garbage, and reads its memory afterwards.
func (p *peer) collected() (load.Memory, error) {
	if err := p.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return load.Memory{}, err
	}
	if _, err := p.line(); err != nil {
		return load.Memory{}, fmt.Errorf("collect garbage: %w", err)
	}
	return load.ReadMemory(p.pid)
}
