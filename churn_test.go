package holdpost_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/frame"
)

// hijackable hands out a connection in memory.
type hijackable struct {
	http.ResponseWriter
	conn net.Conn
}

// timeless is a pipe's end without deadlines: their timers would keep it for a while when it is closed.
type timeless struct{ net.Conn }

func (timeless) SetDeadline(time.Time) error      { return nil }
func (timeless) SetWriteDeadline(time.Time) error { return nil }

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, 16), bufio.NewWriterSize(h.conn, 16)), nil
}

// visitWebSocket connects, joins namespaces, leaves something open in each, and goes.
func visitWebSocket(srv *holdpost.Server, n int) error {
	ours, theirs := net.Pipe()
	r := httptest.NewRequest("GET", "http://test/socket.io/?EIO=4&transport=websocket", nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(name, value)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.ServeHTTP(hijackable{httptest.NewRecorder(), timeless{theirs}}, r)
	}()
	in := bufio.NewReader(ours)
	defer func() {
		ours.Close()
		<-served
	}()
	expect := func(text string) error {
		var got []byte
		for !strings.Contains(string(got), text) {
			b, err := in.ReadByte()
			if err != nil {
				return fmt.Errorf("%w before %s, after %q", err, text, got)
			}
			got = append(got, b)
		}
		return nil
	}
	send := func(packets ...string) {
		var out []byte
		for _, p := range packets {
			out = frame.AppendMasked(out, frame.Text, true, [4]byte{}, []byte(p))
		}
		ours.Write(out)
	}
	if err := expect(`"maxPayload"`); err != nil {
		return err
	}
	dynamic := fmt.Sprintf("/dyn-%d", n)
	send("40")
	if err := expect(`40{"sid"`); err != nil {
		return err
	}
	send("40" + dynamic + ",")
	if err := expect("40" + dynamic + ",{"); err != nil {
		return err
	}
	send(`420["leave open"]`, "41"+dynamic, `451-["partial",{"_placeholder":true,"num":0}]`)
	return expect("430[]")
}

// visitPolling does the same, and says good-bye.
func visitPolling(srv *holdpost.Server, n int) error {
	query := "http://test/socket.io/?EIO=4&transport=polling"
	request := func(method, body string) string {
		rec := httptest.NewRecorder()
		srv.ServeHTTP(rec, httptest.NewRequest(method, query, strings.NewReader(body)))
		return rec.Body.String()
	}
	open := request("GET", "")
	_, sid, _ := strings.Cut(open, `"sid":"`)
	query += "&sid=" + sid[:20]
	for _, step := range []struct{ post, want string }{{"40", `40{"sid"`}, {fmt.Sprintf("40/dyn-%d,", n), `{"sid"`}, {`420["leave open"]`, "430[]"}} {
		request("POST", step.post)
		got := ""
		for !strings.Contains(got, step.want) {
			poll := request("GET", "")
			if strings.HasPrefix(poll, "{") {
				return fmt.Errorf("polled %s after %s", poll, got)
			}
			got += poll
		}
	}
	if got := request("POST", "1"); got != "ok" {
		return fmt.Errorf("good-bye is answered %q", got)
	}
	return nil
}

// Many clients come and go: memory, goroutines and descriptors are back where they were.
func TestComeAndGo(t *testing.T) {
	visits := 50_000
	if raceDetector {
		visits /= 10
	}
	key := holdpost.NewKey[[]byte]("data")
	srv := holdpost.NewServer(&holdpost.Config{Logger: slog.New(slog.DiscardHandler), MaxDynamicNamespaces: 100})
	defer srv.Close()
	srv.OfPattern(regexp.MustCompile(`^/dyn-\d+$`))
	ns := srv.Of("/")
	ended := 0
	var mu sync.Mutex
	ns.OnDisconnect(func(*holdpost.Socket, holdpost.Reason) {
		mu.Lock()
		defer mu.Unlock()
		ended++
	})
	ns.On("leave open", func(ctx context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		key.Set(s, make([]byte, 1000))
		s.On("e", reply)
		p, err := holdpost.Prepare("question")
		if err != nil {
			return nil, err
		}
		return nil, errors.Join(s.Join("a", s.ID()+"'s"), s.DeliverWithAck(p, false, func(holdpost.Args, error) {}))
	})
	visit := func(count int) {
		var all sync.WaitGroup
		for k := range 4 {
			all.Go(func() {
				for n := range count / 4 {
					way := visitWebSocket
					if n%4 == 0 {
						way = visitPolling
					}
					if err := way(srv, k); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		deadline := time.Now().Add(time.Minute)
		for srv.Connections() > 0 || ns.Len() > 0 {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections, %d sockets left", srv.Connections(), ns.Len())
			}
			runtime.Gosched()
		}
	}
	visit(1000) // pools and maps have their size from here on
	before := measure()
	visit(visits)
	var after usage
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if after = measure(); after.heap <= before.heap+1<<20 && after.goroutines <= before.goroutines+2 && after.files <= before.files {
			break
		}
	}
	t.Logf("%d visits: %+v, then %+v", visits, before, after)
	if after.heap > before.heap+1<<20 || after.goroutines > before.goroutines+2 || after.files > before.files {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if n := len(namesOf(srv)); n != 1 {
		t.Errorf("%d namespaces left", n)
	}
	mu.Lock()
	defer mu.Unlock()
	if ended != visits+1000 {
		t.Errorf("%d ends of %d visits", ended, visits+1000)
	}
}

type usage struct{ heap, goroutines, files int }

func measure() usage {
	runtime.GC()
	runtime.GC() // what finalisers and pools let go of only a second one frees
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/proc/self/fd") // 0 where the system does not list them
	return usage{int(m.HeapAlloc), runtime.NumGoroutine(), len(files)}
}

func namesOf(srv *holdpost.Server) (names []string) {
	for ns := range srv.Namespaces() {
		names = append(names, ns.Name())
	}
	return names
}
