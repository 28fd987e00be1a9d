//go:build unix

package conformance

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// The chat of the README: what one says, the other hears.
func TestChat(t *testing.T) {
	skipShort(t)
	program := filepath.Join(artifacts, "chat")
	if err := command(".", "go", "build", "-o", program, "../examples/chat"); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	server := runExample(t, program, "-address", address)
	await(t, server, "", func() bool {
		status, _ := get("http://" + address + "/socket.io/?EIO=4&transport=none")
		return status == 400
	})
	chat := filepath.Join("..", "examples", "chat", "chat.mjs")
	ann := runExample(t, "node", chat, "ann", "http://"+address)
	ann.wait(t, "connected")
	bob := runExample(t, "node", chat, "bob", "http://"+address)
	bob.wait(t, "connected")
	bob.say(t, "hello")
	ann.wait(t, "bob: hello")
	ann.say(t, "hello bob")
	bob.wait(t, "ann: hello bob")
}

// The orders of the README: who was away gets what came meanwhile.
func TestOrders(t *testing.T) {
	skipShort(t)
	s := newServer(t)
	orders := filepath.Join("..", "examples", "orders", "orders.mjs")
	ann := runExample(t, "node", orders, "ann", s.url)
	ann.wait(t, "0 held for ann")
	ann.stop()
	bob := runExample(t, "node", orders, "bob", s.url)
	bob.wait(t, "0 held for bob")
	bob.say(t, "2 espresso")
	bob.wait(t, "order: 2 espresso")
	ann = runExample(t, "node", orders, "ann", s.url)
	ann.wait(t, "1 held for ann")
	ann.wait(t, "order: 2 espresso")
}

// The page of the examples, served by another server than ours.
func TestPage(t *testing.T) {
	skipShort(t)
	page, err := filepath.Abs(filepath.Join("..", "examples", "page", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	runScript(t, "page.mjs", newServer(t), "HOLDPOST_CHROMIUM="+chromium, "HOLDPOST_PAGE="+page)
}

// example is a running program that one talks to by its standard input and output.
type example struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	said  *output
}

func runExample(t *testing.T, name string, args ...string) *example {
	t.Helper()
	e := &example{cmd: exec.Command(name, args...), said: &output{}}
	e.cmd.Stdout, e.cmd.Stderr = e.said, e.said
	var err error
	if e.input, err = e.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.stop)
	return e
}

// stop ends it at once. Further calls do nothing.
func (e *example) stop() {
	e.cmd.Process.Kill()
	e.cmd.Wait()
}

func (e *example) say(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(e.input, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

func (e *example) wait(t *testing.T, line string) {
	t.Helper()
	re := regexp.MustCompile("(?m)^(" + regexp.QuoteMeta(line) + ")$")
	await(t, e, line, func() bool { return e.said.find(re) != "" })
}

func await(t *testing.T, e *example, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("%s never said %q:\n%s", e.cmd, what, e.said.tail(50))
		}
		<-time.After(10 * time.Millisecond)
	}
}

// freeAddress returns an address on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listens waits until somebody listens on an address, who says said meanwhile.
func listens(t *testing.T, address string, said *output) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody listens on %s: %v\n%s", address, err, said.tail(30))
		}
		<-time.After(10 * time.Millisecond)
	}
}
