package engineio

import (
	"bytes"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdpost/holdpost/internal/frame"
	"github.com/holdpost/holdpost/internal/peertest"
)

// rawClient is a WebSocket client that costs the process a descriptor and nothing else.
type rawClient int

// dialRaw connects from an address of the loopback net of its own, so that ports do not run out.
func dialRaw(b testing.TB, port, i int) rawClient {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, byte(1 + i/4000), 1}}); err != nil {
		b.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		b.Fatal(err)
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	c := rawClient(fd)
	c.write(b, []byte(peertest.WebSocketRequest("EIO=4&transport=websocket",
		"Origin", "https://app.example.org", "User-Agent", strings.Repeat("x", 100), "Accept-Encoding", "gzip, deflate, br",
		"Accept-Language", "en-GB,en;q=0.9", "Cache-Control", "no-cache", "Pragma", "no-cache")))
	c.readUntil(b, []byte(`"maxPayload":1000000}`))
	return c
}

func (c rawClient) write(b testing.TB, p []byte) {
	if _, err := unix.Write(int(c), p); err != nil {
		b.Fatal(err)
	}
}

func (c rawClient) readUntil(b testing.TB, end []byte) {
	var buf [4096]byte
	n := 0
	for !bytes.HasSuffix(buf[:n], end) {
		m, err := unix.Read(int(c), buf[n:])
		if err != nil || m == 0 {
			b.Fatalf("read: %d %v", m, err)
		}
		n += m
	}
}

func (c rawClient) readN(b testing.TB, buf []byte) {
	for n := 0; n < len(buf); {
		m, err := unix.Read(int(c), buf[n:])
		if err != nil || m == 0 {
			b.Fatalf("read: %d %v", m, err)
		}
		n += m
	}
}

func (c rawClient) close() { unix.Close(int(c)) }

type echoHandler struct{ s *Session }

func (h *echoHandler) Message(data []byte, binary bool) error {
	h.s.Send(false, NewText(data))
	return nil
}
func (h *echoHandler) Batch() Runner        { h.s.Flush(); return nil }
func (h *echoHandler) Closed(Reason, error) {}

func benchServer(b testing.TB) (*Server, int) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	h := serveHost(&testing.T{}, Config{}, ln)
	h.srv.config.Open = func(s *Session) Handler { return &echoHandler{s} }
	b.Cleanup(func() {
		h.srv.Close()
		h.HTTP.Close()
	})
	return h.srv, ln.Addr().(*net.TCPAddr).Port
}

func residentBytes() int {
	for range 2 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	b, _ := os.ReadFile("/proc/self/statm")
	pages, _ := strconv.Atoi(strings.Fields(string(b))[1])
	return pages * os.Getpagesize()
}

// BenchmarkIdle reports what an idle WebSocket costs the process after one echo, one ping and its pong.
func BenchmarkIdle(b *testing.B) {
	const count = 8000
	srv, port := benchServer(b)
	warm := dialRaw(b, port, 0)
	defer warm.close()
	before := residentBytes()
	var ms0, ms1 runtime.MemStats
	runtime.ReadMemStats(&ms0)
	clients := make([]rawClient, count)
	start := cpuTime()
	for i := range clients {
		clients[i] = dialRaw(b, port, i)
	}
	handshakes := cpuTime() - start
	msg := frame.AppendMasked(nil, frame.Text, true, [4]byte{1, 2, 3, 4}, []byte("4hello"))
	pong := frame.AppendMasked(nil, frame.Text, true, [4]byte{1, 2, 3, 4}, []byte("3"))
	for _, c := range clients {
		c.write(b, msg)
		c.readUntil(b, []byte("4hello"))
	}
	for s := range srv.Sessions() {
		s.Confirm(func(bool) {})
	}
	for _, c := range clients {
		c.readUntil(b, []byte("2"))
		c.write(b, pong)
	}
	time.Sleep(time.Second) // for the last of them to have gone idle
	after := residentBytes()
	runtime.ReadMemStats(&ms1)
	b.ReportMetric(float64(after-before)/count, "B/conn")
	b.ReportMetric(float64(ms1.HeapAlloc-ms0.HeapAlloc)/count, "heap-B/conn")
	b.ReportMetric(float64(ms1.StackInuse-ms0.StackInuse)/count, "stack-B/conn")
	b.ReportMetric(float64(handshakes.Nanoseconds())/count, "cpu-ns/handshake-both-ends")
	for _, c := range clients {
		c.close()
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEcho is one message there and back, alone and sixteen at a time.
func BenchmarkEcho(b *testing.B) {
	for _, depth := range []int{1, 16} {
		b.Run("depth="+strconv.Itoa(depth), func(b *testing.B) {
			_, port := benchServer(b)
			c := dialRaw(b, port, 0)
			defer c.close()
			one := frame.AppendMasked(nil, frame.Text, true, [4]byte{1, 2, 3, 4}, bytes.Repeat([]byte("4"), 64))
			out := bytes.Repeat(one, depth)
			in := make([]byte, depth*66)
			b.ReportAllocs()
			for b.Loop() {
				c.write(b, out)
				c.readN(b, in)
			}
		})
	}
}

// BenchmarkBroadcast sends one shared message to many sessions, which do not read meanwhile.
func BenchmarkBroadcast(b *testing.B) {
	const count = 1000
	srv, port := benchServer(b)
	clients := make([]rawClient, count)
	for i := range clients {
		clients[i] = dialRaw(b, port, i)
		defer clients[i].close()
	}
	sessions := srv.snapshot()
	m := NewText(bytes.Repeat([]byte("x"), 128))
	buf := make([]byte, m.Len())
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range sessions {
			s.Send(true, m)
		}
		b.StopTimer()
		for _, c := range clients {
			c.readN(b, buf)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/delivery")
}
