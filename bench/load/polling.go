//go:build linux

package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Poller is one Engine.IO session over long-polling, with one socket in the namespace "/". It keeps two connections, as
// browsers do: a GET waits on one while POSTs use the other.
type Poller struct {
	get, post *httpConn
	sid       string
	packets   []string // received, not yet handed out
}

// DialPolling opens a session. The deadline of each request is the timeout.
func DialPolling(hostport string, timeout time.Duration) (*Poller, error) {
	p := &Poller{}
	var err error
	if p.get, err = dialHTTP(hostport, timeout); err != nil {
		return nil, err
	}
	if p.post, err = dialHTTP(hostport, timeout); err != nil {
		p.get.nc.Close()
		return nil, err
	}
	if err := p.open(); err != nil {
		p.Close()
		return nil, fmt.Errorf("open a polling session: %w", err)
	}
	return p, nil
}

func (p *Poller) open() error {
	body, err := p.get.roundTrip("GET", "", "")
	if err != nil {
		return err
	}
	var open struct {
		SID string `json:"sid"`
	}
	if !strings.HasPrefix(body, "0") || json.Unmarshal([]byte(body[1:]), &open) != nil || open.SID == "" {
		return fmt.Errorf("unexpected answer %q", body)
	}
	p.sid = "&sid=" + open.SID
	if err := p.Send("40"); err != nil {
		return err
	}
	b, err := p.Next()
	if err == nil && !strings.HasPrefix(b, `0{"sid":`) {
		err = fmt.Errorf("unexpected packet %q", b)
	}
	return err
}

// Send posts one Engine.IO packet.
func (p *Poller) Send(packet string) error {
	body, err := p.post.roundTrip("POST", p.sid, packet)
	if err == nil && body != "ok" {
		err = fmt.Errorf("unexpected answer %q", body)
	}
	return err
}

// Poll starts a GET; Next takes its answer. A caller that polls before it sends measures the usual case: the server finds
// a waiting request.
func (p *Poller) Poll() error { return p.get.send("GET", p.sid, "") }

// Next returns the next Socket.IO packet. It reads the answer of the GET under way, and polls where there is none.
func (p *Poller) Next() (string, error) {
	for {
		for len(p.packets) > 0 {
			b := p.packets[0]
			p.packets = p.packets[1:]
			switch {
			case b == "2":
				if err := p.Send("3"); err != nil {
					return "", err
				}
			case strings.HasPrefix(b, "4"):
				return b[1:], nil
			case b != "6":
				return "", fmt.Errorf("unexpected packet %q", b)
			}
		}
		if !p.get.waiting {
			if err := p.Poll(); err != nil {
				return "", err
			}
		}
		body, err := p.get.answer()
		if err != nil {
			return "", err
		}
		p.packets = strings.Split(body, "\x1e")
	}
}

// Close drops both connections without a word to the server.
func (p *Poller) Close() {
	p.get.nc.Close()
	p.post.nc.Close()
}

// httpConn is one kept-alive connection.
type httpConn struct {
	nc      net.Conn
	r       *bufio.Reader
	host    string
	timeout time.Duration
	buf     bytes.Buffer
	waiting bool
}

func dialHTTP(hostport string, timeout time.Duration) (*httpConn, error) {
	nc, err := net.DialTimeout("tcp", hostport, timeout)
	if err != nil {
		return nil, err
	}
	if err := nc.(*net.TCPConn).SetLinger(0); err != nil {
		return nil, err
	}
	return &httpConn{nc: nc, r: bufio.NewReader(nc), host: hostport, timeout: timeout}, nil
}

func (h *httpConn) send(method, query, body string) error {
	h.buf.Reset()
	h.buf.WriteString(method + " /socket.io/?EIO=4&transport=polling" + query + " HTTP/1.1\r\nHost: " + h.host +
		"\r\nAccept: */*\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0\r\n")
	if method == "POST" {
		h.buf.WriteString("Content-Type: text/plain;charset=UTF-8\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	h.buf.WriteString("\r\n" + body)
	if err := h.nc.SetDeadline(time.Now().Add(h.timeout)); err != nil {
		return err
	}
	h.waiting = true
	_, err := h.nc.Write(h.buf.Bytes())
	return err
}

func (h *httpConn) answer() (string, error) {
	h.waiting = false
	r, err := http.ReadResponse(h.r, nil)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %q", r.StatusCode, b)
	}
	return string(b), err
}

func (h *httpConn) roundTrip(method, query, body string) (string, error) {
	if err := h.send(method, query, body); err != nil {
		return "", err
	}
	return h.answer()
}
