// Package natstest runs nats-server for tests: in processes of their own, from the module in go.mod, on free ports of the loopback
// interface.
package natstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds the wait for a server, on a machine that does much else.
const patience = 30 * time.Second

// Config configures servers. The zero value is one that syncs now and then, and has one account for everybody.
type Config struct {
	SyncAlways bool   // acknowledge what is on the disk
	Accounts   int    // so many accounts with JetStream, of the users 1, 2 and so on with the password of [Password]; nobody else gets in
	Extra      string // more lines of the configuration, which [Server.Reload] may change
	Cuttable   bool   // those of a cluster can be cut off from each other
	Dir        string // of what the first server stores; "" = one of the test
}

// Password is that of each user.
const Password = "test"

// Server is a server that can be killed and started again with what it has stored.
type Server struct {
	Name  string // in its cluster
	URL   string
	Store string // the directory of what it stores

	address     string
	dir, config string
	fixed       string        // what is always in the configuration
	health      string        // where it tells whether it is well
	process     *os.Process   // nil while it does not run
	routes      []*Proxy      // to and from the others of its cluster, if it can be cut off
	ended       chan struct{} // closed when the process has ended
}

// program returns the path of nats-server, which is built once.
var program = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "tool", "-n", "nats-server").Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// Run starts a server, which ends with the test.
func Run(t testing.TB, c Config) *Server {
	t.Helper()
	return run(t, c, 1)[0]
}

// RunCluster starts n servers that are one cluster. It returns once they have a leader.
func RunCluster(t testing.TB, c Config, n int) []*Server {
	t.Helper()
	return run(t, c, n)
}

// URLs returns the addresses of servers.
func URLs(servers []*Server) []string {
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.URL
	}
	return urls
}

func run(t testing.TB, c Config, n int) []*Server {
	t.Helper()
	ports, err := freePorts(3 * n)
	if err != nil {
		t.Fatal(err)
	}
	servers := make([]*Server, n)
	for i := range servers {
		servers[i] = &Server{Name: fmt.Sprintf("n%d", i)}
	}
	for i, s := range servers {
		dir := t.TempDir()
		var b strings.Builder
		fmt.Fprintf(&b, "server_name: n%d\nlisten: 127.0.0.1:%d\nhttp: 127.0.0.1:%d\nmax_payload: 8MB\nlog_file: %q\n", i, ports[3*i+1], ports[3*i+2],
			filepath.Join(dir, "log"))
		sync := "2m"
		if c.SyncAlways {
			sync = "always"
		}
		s.Store = filepath.Join(dir, "store")
		if i == 0 && c.Dir != "" {
			s.Store = c.Dir
		}
		fmt.Fprintf(&b, "jetstream { store_dir: %q, max_file_store: 1024TB, sync_interval: %s }\n", s.Store, sync)
		if n > 1 {
			var routes []string
			for j, other := range servers {
				address := fmt.Sprintf("127.0.0.1:%d", ports[3*j])
				if c.Cuttable && j != i {
					p, err := newProxy(t, address)
					if err != nil {
						t.Fatal(err)
					}
					s.routes, other.routes = append(s.routes, p), append(other.routes, p)
					address = p.listener.Addr().String()
				}
				routes = append(routes, "nats-route://"+address)
			}
			fmt.Fprintf(&b, "cluster { name: test, listen: 127.0.0.1:%d, routes: [%s]", ports[3*i], strings.Join(routes, ", "))
			if c.Cuttable {
				b.WriteString(", advertise: \"127.0.0.1:1\"") // no way past the proxies
			}
			b.WriteString(" }\n")
		}
		if c.Accounts > 0 {
			b.WriteString("accounts {\n")
			for a := range c.Accounts {
				fmt.Fprintf(&b, "A%d { jetstream: enabled, users: [{ user: \"%d\", password: %q }] }\n", a+1, a+1, Password)
			}
			b.WriteString("}\n")
		}
		s.address = fmt.Sprintf("127.0.0.1:%d", ports[3*i+1])
		s.URL, s.health = "nats://"+s.address, fmt.Sprintf("http://127.0.0.1:%d/healthz", ports[3*i+2])
		s.dir, s.config, s.fixed = dir, filepath.Join(dir, "config"), b.String()
		if err := s.configure(c.Extra); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, s := range servers {
			s.Kill()
			if t.Failed() {
				t.Logf("%s complained:\n%s", s.URL, s.complaints())
			}
		}
	})
	for _, s := range servers {
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range servers {
		if err := s.wait(); err != nil {
			t.Fatal(err)
		}
	}
	return servers
}

// complaints returns the last lines of the server's log that are not notices.
func (s *Server) complaints() string {
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := slices.DeleteFunc(strings.Split(string(log), "\n"), func(line string) bool { return line == "" || strings.Contains(line, "[INF]") })
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // only then: each is another one
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (s *Server) configure(extra string) error {
	return os.WriteFile(s.config, []byte(s.fixed+extra), 0o600)
}

// Reload gives a running server other lines for those of [Config.Extra]. It takes them in soon.
func (s *Server) Reload(extra string) error {
	if err := s.configure(extra); err != nil {
		return err
	}
	return s.signal("reload")
}

// signal has a running server do something, by the names that nats-server has for that.
func (s *Server) signal(what string) error {
	path, err := program()
	if err != nil {
		return err
	}
	if out, err := exec.Command(path, "--signal", fmt.Sprintf("%s=%d", what, s.process.Pid)).CombinedOutput(); err != nil {
		return fmt.Errorf("tell nats-server to %s: %w: %s", what, err, out)
	}
	return nil
}

// Start starts the server again, with what it has stored, and returns when it serves.
func (s *Server) Start() error {
	if err := s.Launch(); err != nil {
		return err
	}
	return s.wait()
}

// Launch starts the server again and returns at once: one of a cluster does not serve without others.
func (s *Server) Launch() error {
	path, err := program()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, "-c", s.config)
	endWithParent(cmd)
	ended, started := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel takes the end of the thread that started it for the parent's
		started <- cmd.Start()
		if cmd.Process != nil {
			cmd.Wait()
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start nats-server: %w", err)
	}
	s.process, s.ended = cmd.Process, ended
	return nil
}

// wait returns when the server is well, which in a cluster includes that there is a leader.
func (s *Server) wait() error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.Now().Add(patience)
	for {
		var answer struct{ Status, Error string }
		r, err := client.Get(s.health)
		if err == nil {
			err = json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&answer)
			r.Body.Close()
		}
		if err == nil && answer.Status == "ok" {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("%s ended by itself: see its log", s.URL)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not well after %v: %s, %w", s.URL, patience, answer.Error, err)
		}
	}
}

// Cut cuts the server off from the others of its cluster, with [Config.Cuttable]. Clients go on to reach it.
func (s *Server) Cut() {
	for _, p := range s.routes {
		p.Cut()
	}
}

// Mend undoes Cut.
func (s *Server) Mend() {
	for _, p := range s.routes {
		p.Mend()
	}
}

// Running reports whether the server has not ended.
func (s *Server) Running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// LameDuck has a running server hand over what it leads and send its clients away, and then end.
func (s *Server) LameDuck() error { return s.signal("ldm") }

// Kill ends the server as a crash does. Killing one that does not run does nothing.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.process.Kill()
	<-s.ended
	s.process = nil
}
