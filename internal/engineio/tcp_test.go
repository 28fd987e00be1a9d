package engineio

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// These tests run over sockets, in real time: what they are about is the kernel's part. They wait for conditions only.

func listen(t *testing.T, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = t.TempDir() + "/s"
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 20 s: %s", what)
		}
	}
}

// pattern returns n bytes that tell which message of which stream they are, and where.
func pattern(stream, i, n int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(stream))
	b = binary.BigEndian.AppendUint32(b, uint32(i))
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	for fill := tiles[(i*13+stream)&0xff:]; len(b) < n; {
		b = append(b, fill[:min(n-len(b), 1<<10)]...)
	}
	return b
}

var tiles = func() (b [2 << 10]byte) {
	for k := range b {
		b[k] = byte(k * 7 >> 2)
	}
	return b
}()

// A checker reads one stream of patterns and says what is wrong with it.
type checker struct {
	stream, next int
	bytes        int
	wrong        error
}

const anyStream = -1 // whichever the first message is of

func (c *checker) Message(op frame.Opcode, payload []byte) error {
	if op == frame.Text {
		return nil // the open packet, a ping
	}
	if c.stream == anyStream && len(payload) >= 4 {
		c.stream = int(binary.BigEndian.Uint32(payload))
	}
	if len(payload) < 12 || !bytes.Equal(payload, pattern(c.stream, c.next, len(payload))) ||
		int(binary.BigEndian.Uint32(payload[8:])) != len(payload) {
		c.wrong = fmt.Errorf("stream %d, message %d: %d bytes %x…", c.stream, c.next, len(payload), payload[:min(16, len(payload))])
		return c.wrong
	}
	c.next++
	c.bytes += len(payload)
	return nil
}

func (c *checker) Control(frame.Opcode, []byte) error { return nil }

// read reads until it has that many messages, or the end.
func (c *checker) read(conn net.Conn, count int) error {
	r := frame.Reader{Limits: &frame.Limits{MaxMessage: 1 << 30, Client: true}}
	defer r.Release()
	buf := make([]byte, 64<<10)
	for c.next < count {
		n, err := conn.Read(buf)
		if n > 0 {
			if err := r.Feed(buf[:n], c); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sessionOf(h *host, n int) *recorder {
	eventually(h.t, fmt.Sprintf("%d sessions", n), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.sessions) >= n
	})
	return h.last()
}

// The kernel takes no more; everything arrives all the same, in order and whole, once the peer reads.
func TestBacklog(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			h := serveHost(t, Config{QueueBytes: 1 << 30, QueuePackets: 1 << 20, WriteTimeout: time.Minute}, listen(t, network))
			conn := h.DialWebSocket("EIO=4&transport=websocket")
			defer conn.Close()
			s := sessionOf(h, 1).session
			r := rand.New(rand.NewPCG(3, 4))
			const count = 4000
			total := 0
			for i := range count {
				n := 12 + r.IntN(200)
				if i%200 == 0 {
					n = 12 + r.IntN(300_000)
				}
				total += n
				if !s.Send(i%3 == 0, NewBinary(pattern(0, i, n))) {
					t.Fatal("refused")
				}
			}
			s.Flush()
			if q := s.Queued(); q < total/4 {
				t.Logf("only %d of %d bytes were queued", q, total)
			}
			drained := make(chan bool)
			s.NotifyDrained(func() { close(drained) })
			c := checker{}
			if err := c.read(conn, count); err != nil || c.bytes != total {
				t.Errorf("%v, %d of %d bytes: %v", err, c.bytes, total, c.wrong)
			}
			<-drained
			s.Send(true, NewBinary(pattern(0, count, 100)))
			if err := c.read(conn, count+1); err != nil {
				t.Errorf("after the backlog: %v", err)
			}
		})
	}
}

// Many streams, closed at any moment by either side, some with bytes under way: no message is ever torn or another's.
func TestCloseRaces(t *testing.T) {
	h := serveHost(t, Config{QueueBytes: 1 << 30, QueuePackets: 1 << 20}, listen(t, "tcp"))
	var streams atomic.Int64
	h.open = func(s *Session) {
		stream := int(streams.Add(1))
		go func() {
			r := rand.New(rand.NewPCG(5, uint64(stream)))
			end := r.IntN(200)
			for i := 0; s.Send(r.IntN(2) == 0, NewBinary(pattern(stream, i, 12+r.IntN(1+r.IntN(30_000))))); i++ {
				if i == end {
					if r.IntN(2) == 0 {
						s.Abort(ReasonForcedClose)
					} else {
						s.Close(ReasonForcedClose)
					}
				}
			}
		}()
	}
	const rounds, width = 25, 8
	for round := range rounds {
		var wg sync.WaitGroup
		for k := range width {
			wg.Go(func() {
				conn := h.DialWebSocket("EIO=4&transport=websocket")
				defer conn.Close()
				r := rand.New(rand.NewPCG(uint64(round), uint64(k)))
				if k%4 == 0 { // read a little and hang up the hard way
					io.CopyN(io.Discard, conn, int64(r.IntN(100_000)))
					conn.Conn.(*net.TCPConn).SetLinger(0)
					return
				}
				c := checker{stream: anyStream}
				if err := c.read(conn, 1<<30); c.wrong != nil {
					t.Errorf("%v (%v)", c.wrong, err)
				}
			})
		}
		wg.Wait()
	}
	eventually(t, "all sessions are closed", func() bool { return h.srv.Len() == 0 })
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.sessions {
		eventually(t, "each is told once", func() bool { return len(r.reasons()) == 1 })
	}
}

// Echo with content checks over many connections at once, in pieces that fall anywhere.
func TestManyEchoes(t *testing.T) {
	h := serveHost(t, Config{}, listen(t, "tcp"))
	h.serve = echo
	var wg sync.WaitGroup
	for stream := range 20 {
		wg.Go(func() {
			conn := h.DialWebSocket("EIO=4&transport=websocket")
			defer conn.Close()
			const count = 200
			go func() {
				r := rand.New(rand.NewPCG(7, uint64(stream)))
				var out []byte
				for i := range count {
					out = frame.AppendMasked(out, frame.Binary, true, [4]byte{byte(i), 2, 3, byte(stream)}, pattern(stream, i, 12+r.IntN(3000)))
					if i == 40 {
						out = frame.AppendMasked(out, frame.Text, true, [4]byte{}, []byte("3"))
					}
				}
				for len(out) > 0 {
					n := min(len(out), 1+r.IntN(5000))
					if _, err := conn.Write(out[:n]); err != nil {
						t.Error(err)
						return
					}
					out = out[n:]
				}
			}()
			c := checker{stream: stream}
			if err := c.read(conn, count); err != nil {
				t.Errorf("%v: %v", err, c.wrong)
			}
		})
	}
	wg.Wait()
}

// A connection may break at every byte of the handshake and of what follows, in either way (reset or end): nothing stays.
func TestBrokenAtEveryByte(t *testing.T) {
	h := serveHost(t, Config{}, listen(t, "tcp"))
	script := peertest.WebSocketRequest("EIO=4&transport=websocket") + masked(frame.Text, true, "4hello") + masked(frame.Close, true, "")
	before := runtime.NumGoroutine()
	for n := range len(script) + 1 {
		for _, reset := range []bool{false, true} {
			conn, err := h.Dial()
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, script[:n])
			if reset {
				conn.(*net.TCPConn).SetLinger(0)
			} else {
				conn.(*net.TCPConn).CloseWrite()
				if n > 0 {
					io.Copy(io.Discard, conn) // to the server's end
				}
			}
			conn.Close()
		}
	}
	eventually(t, "no session is left", func() bool { return h.srv.Len() == 0 })
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// One peer that does not read costs the others nothing, and goes after the write timeout.
func TestStuckPeer(t *testing.T) {
	h := serveHost(t, Config{WriteTimeout: 300 * time.Millisecond, QueueBytes: 64 << 20}, listen(t, "tcp"))
	stuck := h.DialWebSocket("EIO=4&transport=websocket")
	defer stuck.Close()
	bad := sessionOf(h, 1)
	good := h.DialWebSocket("EIO=4&transport=websocket")
	defer good.Close()
	fine := sessionOf(h, 2)
	m := NewBinary(make([]byte, 60_000))
	for range 500 {
		start := time.Now()
		bad.session.Send(true, m)
		if d := time.Since(start); d > 200*time.Millisecond {
			t.Errorf("sending to it took %v", d)
		}
	}
	c := checker{}
	for i := range 100 {
		fine.session.Send(true, NewBinary(pattern(0, i, 1000)))
	}
	if err := c.read(good, 100); err != nil {
		t.Errorf("the other: %v %v", err, c.wrong)
	}
	eventually(t, "it is closed", func() bool { return len(bad.reasons()) == 1 })
	if got := bad.reasons()[0]; got != string(ReasonSlowPeer) {
		t.Errorf("closed with %q", got)
	}
	if n := bad.session.Queued(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// Declared lengths cost nothing, and what was cut off is given back.
func TestHeapOfHostileStreams(t *testing.T) {
	h := serveHost(t, Config{MaxPayload: 100 << 20}, listen(t, "tcp"))
	before := heap()
	var conns []net.Conn
	for range 50 {
		conn := h.DialWebSocket("EIO=4&transport=websocket")
		io.WriteString(conn, "\x82\xff\x00\x00\x00\x00\x06\x40\x00\x00\x01\x02\x03\x04x") // of 100 MiB
		conns = append(conns, conn)
	}
	eventually(t, "all are read", func() bool {
		n := 0
		for s := range h.srv.Sessions() {
			s.mu.Lock()
			if s.messageBy != 0 {
				n++
			}
			s.mu.Unlock()
		}
		return n == len(conns)
	})
	if grown := int64(heap()) - int64(before); grown > 5<<20 {
		t.Errorf("%d bytes for 50 declared lengths", grown)
	}
	for _, conn := range conns {
		conn.Close()
	}
	eventually(t, "all are gone", func() bool { return h.srv.Len() == 0 })
}

// The peer ends its side and still reads: it is told goodbye, and gone.
func TestHalfClose(t *testing.T) {
	h := serveHost(t, Config{}, listen(t, "tcp"))
	conn := h.DialWebSocket("EIO=4&transport=websocket")
	defer conn.Close()
	r := sessionOf(h, 1)
	conn.Conn.(*net.TCPConn).CloseWrite()
	eventually(t, "closed", func() bool { return len(r.reasons()) == 1 })
	if got := r.reasons()[0]; got != string(ReasonTransportClose) {
		t.Errorf("closed with %q", got)
	}
}

// The whole protocol once over sockets, with net/http between.
func TestUpgradeOverTCP(t *testing.T) {
	for _, transport := range []string{Polling, WebSocket, "upgrade"} {
		t.Run(transport, func(t *testing.T) {
			h := serveHost(t, Config{PingInterval: 300 * time.Millisecond, PingTimeout: 20 * time.Second}, listen(t, "tcp"))
			h.serve = echo
			c := h.connect(transport)
			want := func(what, packet string) { // between pings, which come when they are due
				t.Helper()
				for {
					switch got := c.Next(); got {
					case packet:
						return
					case "2":
						c.Send("3")
					default:
						t.Fatalf("%s: got %s", what, peertest.Clip(got))
					}
				}
			}
			c.Send("4hello")
			want("echo", "4hello")
			for range 3 {
				c.Want("ping", "2")
				c.Send("3")
			}
			big := strings.Repeat("x", 500_000)
			c.Send("4" + big)
			want("a big one", "4"+big)
			c.record().session.Close(ReasonForcedClose)
			if transport == Polling {
				want("close", "1")
			} else {
				want("close", "close 1005")
			}
			c.ended("closed", ReasonForcedClose)
		})
	}
}

// Over TLS there is no socket to ask, so that everything goes by way of the connection's own methods.
func TestTLS(t *testing.T) {
	h := newHost(t, Config{})
	h.serve = echo
	server := httptest.NewTLSServer(h.srv)
	defer server.Close()
	h.Dial = func() (net.Conn, error) {
		return tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	}
	c := h.connect(WebSocket)
	for _, n := range []int{10, 511, 512, 513, 40_000, 500_000} {
		text := strings.Repeat("x", n)
		c.Send("4" + text)
		c.Want("echo", "4"+text)
	}
	if !c.record().session.Secure() {
		t.Error("not secure")
	}
	c.SendBad("abc")
	c.Want("the close frame arrives", "close 1005")
	c.ended("unknown packet", ReasonParseError)
}

// Over HTTP/2 there are no WebSockets, but polls like any other.
func TestHTTP2(t *testing.T) {
	h := newHost(t, Config{})
	h.serve = echo
	server := httptest.NewUnstartedServer(h.srv)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	url := server.URL + "/socket.io/?EIO=4&transport=polling"
	get := func(method, url, body string) string {
		r, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.ProtoMajor != 2 || resp.StatusCode != 200 {
			t.Errorf("%s %s: %v", method, resp.Status, err)
		}
		return string(b)
	}
	get("GET", url, "")
	url += "&sid=" + h.last().session.ID()
	if got := get("POST", url, "4hello"); got != "ok" {
		t.Errorf("POST: %q", got)
	}
	if got := get("GET", url, ""); got != "4hello" {
		t.Errorf("GET: %q", got)
	}
	h.last().session.Abort(ReasonForcedClose)
}

// A connection that was used waits on a stack as small as one that was not: the goroutine that took its message does not
// wait again.
func TestIdleStacks(t *testing.T) {
	h := serveHost(t, Config{}, listen(t, "tcp"))
	const count = 400
	h.serve = func(s *Session, data []byte, _ bool) error {
		var deep [4 << 10]byte // as deep as what an application does with a message
		runtime.KeepAlive(&deep)
		s.Send(false, NewText(data))
		return nil
	}
	stacks := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.StackInuse
	}
	var conns []net.Conn
	for range count {
		conn := h.DialWebSocket("EIO=4&transport=websocket")
		defer conn.Close()
		conns = append(conns, conn)
	}
	sessionOf(h, count)
	fresh := stacks()
	hello := frame.AppendMasked(nil, frame.Text, true, [4]byte{1, 2, 3, 4}, []byte("4hello"))
	for i, conn := range conns { // one by one: what many at a time leave behind is in pieces
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it has taken a message", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.sessions[i].messages()) > 0
		})
	}
	eventually(t, "all wait as before", func() bool { return stacks() < fresh+count<<10 })
}
