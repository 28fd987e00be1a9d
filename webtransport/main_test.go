package webtransport_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	wt "github.com/quic-go/webtransport-go"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/webtransport"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience bounds what a test waits for.
const patience = 20 * time.Second

// A host is a Socket.IO server on one port for HTTPS and WebTransport.
type host struct {
	t       *testing.T
	sockets *holdpost.Server
	server  *webtransport.Server
	address string
	roots   *x509.CertPool
	web     *http.Client
	gone    chan holdpost.Reason // why sockets were disconnected
}

// newHost makes one; around, if not nil, stands in front of the Socket.IO server.
func newHost(t *testing.T, c *holdpost.Config, around func(http.Handler) http.Handler) *host {
	t.Helper()
	if c.Transports == nil {
		c.Transports = []string{"polling", "websocket", "webtransport"}
	}
	h := &host{t: t, sockets: holdpost.NewServer(c), gone: make(chan holdpost.Reason, 100)}
	main := h.sockets.Of("/")
	main.On("echo", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
		return []any{args}, nil
	})
	main.On("transport", func(_ context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		return []any{s.Transport(), s.Handshake().Header.Get("User-Agent"), s.Handshake().Address != "", s.Handshake().Secure}, nil
	})
	main.On("bye", func(_ context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		s.Emit(context.Background(), "last", "word")
		s.Disconnect(true)
		return nil, nil
	})
	main.On("flood", func(ctx context.Context, s *holdpost.Socket, _ holdpost.Args) ([]any, error) {
		text := strings.Repeat("x", 64<<10)
		for s.Emit(ctx, "drop", text) == nil {
		}
		return nil, nil
	})
	main.OnDisconnect(func(_ *holdpost.Socket, reason holdpost.Reason) { h.gone <- reason })
	var handler http.Handler = h.sockets
	if around != nil {
		handler = around(handler)
	}
	certificate := h.certificate()
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = tcp.Addr().String()
	udp, err := net.ListenPacket("udp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	https := &http.Server{Handler: handler, TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0)}
	h.server = webtransport.NewServer(handler, &webtransport.Config{TLS: config})
	served := make(chan error, 2)
	go func() { served <- https.ServeTLS(tcp, "", "") }()
	go func() { served <- h.server.Serve(udp) }()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}}
	h.web = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		h.sockets.Close()
		if err := h.server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		https.Close()
		for range 2 {
			if err := <-served; err != http.ErrServerClosed {
				t.Errorf("serve: %v", err)
			}
		}
		udp.Close()
	})
	return h
}

func (h *host) certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		h.t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		h.t.Fatal(err)
	}
	h.roots = x509.NewCertPool()
	h.roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// session asks for a session and returns the response's status, 0 if there was none.
func (h *host) session(header http.Header) (*wt.Session, int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	d := &wt.Transport{
		TLSClientConfig: &tls.Config{RootCAs: h.roots},
		QUICConfig:      &quic.Config{EnableDatagrams: true, EnableStreamResetPartialDelivery: true},
	}
	h.t.Cleanup(func() { d.Close() })
	response, session, err := d.Dial(ctx, "https://"+h.address+"/socket.io/", header)
	switch {
	case response == nil:
		h.t.Fatal(err)
	case err != nil:
		return nil, response.StatusCode
	}
	h.t.Cleanup(func() { session.CloseWithError(0, "") })
	return session, response.StatusCode
}

// A client is the end of a stream.
type client struct {
	t       *testing.T
	session *wt.Session
	stream  *wt.Stream
}

// open opens the session and the stream that counts, and says first on it, whatever that is.
func (h *host) open(first string) *client {
	h.t.Helper()
	session, status := h.session(http.Header{"User-Agent": {"test"}})
	if session == nil {
		h.t.Fatalf("status %d", status)
	}
	stream, err := session.OpenStream()
	if err != nil {
		h.t.Fatal(err)
	}
	stream.SetDeadline(time.Now().Add(patience))
	c := &client{h.t, session, stream}
	c.raw(first)
	return c
}

// connect opens a session of its own and connects to the main namespace.
func (h *host) connect() *client {
	h.t.Helper()
	c := h.open("\x010")
	if got := c.next(); !strings.Contains(got, `"upgrades":[],`) {
		h.t.Fatalf("open packet %q", got)
	}
	c.say("40")
	if got := c.next(); !strings.HasPrefix(got, `40{"sid":"`) {
		h.t.Fatalf("connect: %q", got)
	}
	return c
}

func (c *client) raw(b string) {
	c.t.Helper()
	if _, err := io.WriteString(c.stream, b); err != nil {
		c.t.Fatal(err)
	}
}

// say sends packets, each with its header; those that begin with NUL are binary.
func (c *client) say(packets ...string) {
	c.t.Helper()
	var b []byte
	for _, p := range packets {
		data, isBinary := strings.CutPrefix(p, "\x00")
		first := byte(0)
		if isBinary {
			first = 0x80
		}
		switch n := len(data); {
		case n < 126:
			b = append(b, first|byte(n))
		case n < 1<<16:
			b = binary.BigEndian.AppendUint16(append(b, first|126), uint16(n))
		default:
			b = binary.BigEndian.AppendUint64(append(b, first|127), uint64(n))
		}
		b = append(b, data...)
	}
	c.raw(string(b))
}

// read returns the next packet, binary ones with NUL in front.
func (c *client) read() (string, error) {
	var head [9]byte
	if _, err := io.ReadFull(c.stream, head[:1]); err != nil {
		return "", err
	}
	n := uint64(head[0] & 0x7f)
	if n >= 126 {
		rest := head[1:3]
		if n == 127 {
			rest = head[1:9]
		}
		if _, err := io.ReadFull(c.stream, rest); err != nil {
			return "", err
		}
		n = 0
		for _, b := range rest {
			n = n<<8 | uint64(b)
		}
	}
	var data bytes.Buffer
	if _, err := io.CopyN(&data, c.stream, int64(n)); err != nil {
		return "", err
	}
	if head[0]&0x80 != 0 {
		return "\x00" + data.String(), nil
	}
	return data.String(), nil
}

// next is read of what must come; pings are answered.
func (c *client) next() string {
	c.t.Helper()
	for {
		p, err := c.read()
		if err != nil {
			c.t.Fatalf("next packet: %v", err)
		}
		if p != "2" {
			return p
		}
		c.say("3")
	}
}

func (c *client) want(packets ...string) {
	c.t.Helper()
	for _, want := range packets {
		if got := c.next(); got != want {
			c.t.Fatalf("got %.200q, want %.200q", got, want)
		}
	}
}

// wantClosed waits for the server to close the session.
func (c *client) wantClosed(what string) {
	c.t.Helper()
	select {
	case <-c.session.Context().Done():
	case <-time.After(patience):
		c.t.Errorf("%s: the session stays open", what)
	}
}

func (h *host) wantGone(reason holdpost.Reason) {
	h.t.Helper()
	select {
	case got := <-h.gone:
		if got != reason {
			h.t.Errorf("disconnected: %q, want %q", got, reason)
		}
	case <-time.After(patience):
		h.t.Errorf("nobody was disconnected, want %q", reason)
	}
}

// poll opens a session by polling and returns its id.
func (h *host) poll() string { return sidOf(h.get("EIO=4&transport=polling")) }

func sidOf(open string) string {
	_, sid, _ := strings.Cut(open, `"sid":"`)
	return sid[:20]
}

// get returns the body of what a GET request is answered.
func (h *host) get(query string) string { return h.request("GET", query, "") }

func (h *host) request(method, query, body string) string {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, fmt.Sprintf("https://%s/socket.io/?%s", h.address, query), strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	response, err := h.web.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}
