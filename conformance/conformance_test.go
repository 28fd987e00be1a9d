//go:build unix

package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var transports = []string{"polling", "websocket", "upgrade"}

// The official client, over every transport: live, and held.
func TestClient(t *testing.T) {
	for _, script := range []string{"live", "held", "recovery"} {
		for _, transport := range transports {
			t.Run(script+"/"+transport, func(t *testing.T) {
				skipShort(t)
				runScript(t, script+".mjs", newServer(t), "HOLDPOST_TRANSPORT="+transport)
			})
		}
	}
}

// A browser on the playground: the offline story, with pictures.
func TestPlayground(t *testing.T) {
	skipShort(t)
	runScript(t, "playground.mjs", newServer(t), "HOLDPOST_CHROMIUM="+chromium, "HOLDPOST_ARTIFACTS="+artifacts)
}

// A browser whose connections break before the answers to its polls and POSTs are there, and that repeats them.
func TestRepeatedRequests(t *testing.T) {
	skipShort(t)
	runScript(t, "repeats.mjs", newServer(t), "HOLDPOST_CHROMIUM="+chromium)
}

// The bundles of the official client come from the server itself, under the names that pages know.
func TestClientBundle(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the binary")
	}
	s := newServer(t)
	for _, bundle := range []string{"socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"} {
		for _, name := range []string{bundle, bundle + ".map"} {
			resp, err := http.Get(s.url + "/socket.io/" + name)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || len(body) < 10_000 || resp.Header.Get("ETag") == "" {
				t.Errorf("%s: %s, %d bytes, %v", name, resp.Status, len(body), err)
			}
		}
	}
}

// A client that opened a session and vanished does not keep the server from ending in good order.
func TestStopBesidesVanishedClient(t *testing.T) {
	skipShort(t)
	s := newServer(t)
	if status, body := get(s.url + "/socket.io/?EIO=4&transport=polling"); status != http.StatusOK || !strings.HasPrefix(body, "0{") {
		t.Fatalf("handshake: %d %s", status, body)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// A second server on the same data directory is refused and told why; the first one goes on.
func TestSecondServer(t *testing.T) {
	skipShort(t)
	s := newServer(t)
	second := &server{dir: s.dir, listen: "127.0.0.1:0", log: &output{}}
	err := second.start()
	if err == nil {
		second.kill()
		t.Fatal("two servers share a data directory")
	}
	if !strings.Contains(second.log.tail(10), s.dir) {
		t.Errorf("the refusal does not name the directory: %v", err)
	}
	if !ready(s.url) {
		t.Error("the first server is gone")
	}
}

// The official parser on our corpus: it takes what we take, and what we refuse beyond it is listed.
func TestParser(t *testing.T) {
	skipShort(t)
	corpus, err := filepath.Abs("../internal/packet/testdata/packets.txt")
	if err != nil {
		t.Fatal(err)
	}
	runScript(t, "parser.mjs", nil, "HOLDPOST_CORPUS="+corpus)
}

func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs Node and a server")
	}
}

// A line is what a script says: that a case has ended, or that it wants something done.
type line struct {
	Case   string `json:"case"`
	Error  string `json:"error"`
	Server string `json:"server"`
}

// runScript runs a script against s, which may be nil, and reports each of its cases as a test. It returns their names, with
// whether they passed.
func runScript(t *testing.T, script string, s *server, env ...string) map[string]bool {
	t.Helper()
	return runProgram(t, []string{"node", filepath.Join("js", script)}, s, env...)
}

func runProgram(t *testing.T, argv []string, s *server, env ...string) map[string]bool {
	t.Helper()
	script := argv[len(argv)-1]
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	if s != nil {
		cmd.Env = append(cmd.Env, "HOLDPOST_URL="+s.url)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a browser and its children end with the script
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	complaints := &output{}
	cmd.Stderr = complaints
	cmd.WaitDelay = 10 * time.Second
	requests, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	cases := make(map[string]bool)
	scanner := bufio.NewScanner(lines)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			t.Errorf("%s wrote %q", script, scanner.Text())
			continue
		}
		if l.Case != "" {
			cases[l.Case] = l.Error == ""
			t.Run(l.Case, func(t *testing.T) {
				if l.Error != "" {
					t.Error(l.Error)
				}
			})
			continue
		}
		answer := []byte("{}")
		if err := s.do(l.Server); err != nil {
			answer, _ = json.Marshal(map[string]string{"error": err.Error()})
		}
		if _, err := fmt.Fprintf(requests, "%s\n", answer); err != nil {
			t.Errorf("%s does not listen: %v", script, err)
		}
	}
	requests.Close()
	if err := cmd.Wait(); err != nil || scanner.Err() != nil {
		t.Errorf("%s: %v %v\n%s", script, err, scanner.Err(), complaints.tail(100))
	}
	if len(cases) == 0 && os.Getenv("HOLDPOST_ONLY") == "" {
		t.Errorf("%s reported no case", script)
	}
	return cases
}
