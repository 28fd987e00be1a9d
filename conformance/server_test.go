//go:build unix

package conformance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds what takes a moment: the start of a server, its end, its readiness.
const patience = 30 * time.Second

// A server is one data directory and the process that serves it, if one runs.
type server struct {
	args   []string
	dir    string
	listen string // the public listener, of which later starts take the port
	name   string // what clients call it, if not by its address
	url    string
	cmd    *exec.Cmd     // nil while no process runs
	exited chan struct{} // closed once cmd has ended and its output was read
	log    *output
}

// newServer starts one in dev mode, with more arguments if there are some.
func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	return newServerNamed(t, "", args...)
}

// newServerNamed is newServer for one that clients call by a name.
func newServerNamed(t *testing.T, name string, args ...string) *server {
	t.Helper()
	s := &server{args: args, name: name, dir: filepath.Join(t.TempDir(), "data"), listen: "127.0.0.1:0", log: &output{}}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("what the server said:\n%s", s.log.tail(200))
		}
		if report := s.log.find(dataRace); report != "" {
			t.Errorf("the server found a data race:\n%s", s.log.tail(400))
		}
	})
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	publicURL = regexp.MustCompile(`(https?://127\.0\.0\.1:[1-9][0-9]*)`)
	dataRace  = regexp.MustCompile(`(WARNING: DATA RACE)`)
)

// start starts the server and waits until it is ready.
func (s *server) start() error {
	if s.cmd != nil {
		return errors.New("start: it runs already")
	}
	cmd := exec.Command(binary, append([]string{"serve", "--dev", "--listen", s.listen, "--internal-listen", "127.0.0.1:0", "--data-dir", s.dir}, s.args...)...)
	cmd.Dir = filepath.Dir(s.dir)
	log := &output{}
	cmd.Stdout = io.MultiWriter(s.log, log)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	s.exited = make(chan struct{})
	go func(exited chan struct{}) { // ends with the process, which kill and stop wait for
		cmd.Wait()
		close(exited)
	}(s.exited)
	deadline := time.Now().Add(patience)
	for {
		if s.url == "" {
			if s.url = log.find(publicURL); s.url != "" {
				_, s.listen, _ = strings.Cut(s.url, "//")
				if s.name != "" {
					s.url = strings.Replace(s.url, "127.0.0.1", s.name, 1)
				}
			}
		}
		if s.url != "" && ready(s.url) {
			return nil
		}
		select {
		case <-s.exited:
			s.cmd = nil
			return fmt.Errorf("start: it ended by itself: %v\n%s", cmd.ProcessState, log.tail(50))
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.kill()
			return fmt.Errorf("start: not ready after %v\n%s", patience, log.tail(50))
		}
	}
}

// ready tells whether Socket.IO is served: a transport that does not exist is refused, and no session left behind.
func ready(url string) bool {
	status, body := get(url + "/socket.io/?EIO=4&transport=none")
	return status == http.StatusBadRequest && strings.HasPrefix(body, `{"code":0,`)
}

// certified is the name of servers that get their certificates from an authority.
const certified = "events.holdpost.test"

// trusting is for servers of these tests alone, whose certificates nobody vouches for, and whose names nobody knows.
var trusting = &http.Client{Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.Replace(address, certified, "127.0.0.1", 1))
	},
}}

// get returns status and body, or 0 and the error.
func get(url string) (status int, body string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	request.Close = true
	response, err := trusting.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(b)
}

// kill ends the server as kill -9 does.
func (s *server) kill() error {
	if s.cmd == nil {
		return errors.New("kill: it does not run")
	}
	s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
	return nil
}

// stop asks the server to end and waits until it has, with success.
func (s *server) stop() error {
	if s.cmd == nil {
		return errors.New("stop: it does not run")
	}
	cmd := s.cmd
	cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	<-s.exited
	s.cmd = nil
	if !cmd.ProcessState.Success() {
		return fmt.Errorf("stop: %v\n%s", cmd.ProcessState, s.log.tail(50))
	}
	return nil
}

func (s *server) do(action string) error {
	if s == nil {
		return errors.New("there is no process to " + action)
	}
	switch action {
	case "kill":
		return s.kill()
	case "stop":
		return s.stop()
	case "start":
		return s.start()
	case "up": // whatever a failed case has left
		if s.cmd != nil {
			return nil
		}
		return s.start()
	}
	return fmt.Errorf("no such action: %q", action)
}

// output keeps what a process writes.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) find(re *regexp.Regexp) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m := re.FindStringSubmatch(o.text.String()); m != nil {
		return m[1]
	}
	return ""
}

func (o *output) tail(lines int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := strings.Split(o.text.String(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
