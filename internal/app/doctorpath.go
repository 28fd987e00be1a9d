package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdpost/holdpost"
	socketio "github.com/holdpost/holdpost/client"
)

const (
	// clockSlack is how far a clock may be off: it is half of what tokens are allowed, and the server tells whole seconds.
	clockSlack = 15 * time.Second
	// certificateSpare is the part of its time that a certificate must have left: they are renewed when a third is left.
	certificateSpare = 5
	// sizeSlack is what an event of the largest size needs besides its text.
	sizeSlack = 1 << 10
	nowhere   = "https://doctor.invalid" // an origin that nobody has
)

const (
	proxyHint = "let the proxy pass upgrades on; nginx: proxy_http_version 1.1, proxy_set_header Upgrade and Connection; Apache: ProxyPass with upgrade=websocket\n" + proxyPage
	proxyPage = "see docs/operations.md, Behind a proxy"
	tokenHint = "set " + tokenVariable + " to a token that holds, to check this too"
)

// handshake asks for a session as a client that polls does, and returns the answer with the first bytes of its body.
func (d *doctor) handshake(ctx context.Context, origin string) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/socket.io/?EIO=4&transport=polling", nil)
	if err != nil {
		return nil, "", err
	}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	response, err := d.http.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSnippet))
	return response, string(body), err
}

// maxSnippet bounds what is read of an answer that should be short.
const maxSnippet = 64 << 10

func (d *doctor) checkServer(ctx context.Context) finding {
	start := time.Now()
	response, body, err := d.handshake(ctx, "")
	took := time.Since(start).Round(100 * time.Microsecond)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return broken("it must be for this name, not have ended, and come with its chain; nginx: ssl_certificate fullchain.pem, HAProxy: a file with chain and key", "%v", err)
	}
	if err != nil {
		return broken("start it, or say where it is: --url URL, as clients reach it", "%v", err)
	}
	var open struct {
		PingInterval int `json:"pingInterval"`
		PingTimeout  int `json:"pingTimeout"`
		MaxPayload   int `json:"maxPayload"`
	}
	text, ok := strings.CutPrefix(body, "0")
	switch {
	case response.StatusCode == http.StatusServiceUnavailable || response.StatusCode == http.StatusBadGateway || response.StatusCode == http.StatusGatewayTimeout:
		return broken("start it, or look at how the proxy reaches it", "nobody is behind %s: %s", d.url, response.Status)
	case response.StatusCode != http.StatusOK || !ok || json.Unmarshal([]byte(text), &open) != nil:
		return broken("is it the address of Socket.IO, and does the proxy pass /socket.io/ on?", "what answers at %s is not Socket.IO: %s", d.url, response.Status)
	}
	d.payload = open.MaxPayload
	interval := time.Duration(open.PingInterval) * time.Millisecond
	if d.hold > 0 && d.hold <= interval {
		return doubtful(fmt.Sprintf("give a longer --hold: a connection is quiet for %v", interval), "it answers in %v, with a heartbeat every %v", took, interval)
	}
	return fine("it answers in %v, with a heartbeat every %v", took, interval)
}

// checkCertificate looks how long the certificate lasts, which was found good by [doctor.checkServer].
func (d *doctor) checkCertificate(ctx context.Context) finding {
	response, _, err := d.handshake(ctx, "")
	if err != nil {
		return broken("", "%v", err)
	}
	if response.TLS == nil {
		return skipped("clients come without TLS")
	}
	leaf := response.TLS.PeerCertificates[0]
	left := time.Until(leaf.NotAfter)
	if left < leaf.NotAfter.Sub(leaf.NotBefore)/certificateSpare {
		return doubtful("whatever renews it does not: look at its log", "the certificate lasts until %s only", leaf.NotAfter.Format(time.DateTime))
	}
	return fine("the certificate lasts until %s", leaf.NotAfter.Format(time.DateTime))
}

func (d *doctor) checkClock(ctx context.Context) finding {
	response, _, err := d.handshake(ctx, "")
	if err != nil {
		return broken("", "%v", err)
	}
	theirs, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return skipped("the server does not tell its time")
	}
	off := time.Since(theirs).Round(time.Second)
	if off.Abs() > clockSlack {
		return doubtful("set both by NTP: tokens that one signs are not valid yet, or not any more, for the other", "this machine's clock is %v away from the server's", off)
	}
	return fine("it is that of the server, within %v", clockSlack)
}

// checkInternal looks whether the API and the metrics can be reached the way that clients come.
func (d *doctor) checkInternal(ctx context.Context) finding {
	for _, path := range []string{"/metrics", "/v1/topics", "/debug/pprof/", "/openapi.json"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+path, nil)
		if err != nil {
			return broken("", "%v", err)
		}
		response, err := d.http.Do(r)
		if err != nil {
			return broken("", "%v", err)
		}
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxSnippet)) // what is there is enough
		response.Body.Close()
		for _, sign := range []string{"holdpost_", `"topics":`, "urn:holdpost:", "goroutine", `"openapi":`} {
			if strings.Contains(string(body), sign) {
				return broken("have the proxy pass on /socket.io/ alone", "%s of the internal listener can be reached at %s", path, d.url)
			}
		}
	}
	return fine("API, metrics and profiles can't be reached this way")
}

func (d *doctor) checkOrigin(ctx context.Context) finding {
	response, _, err := d.handshake(ctx, nowhere)
	if err != nil {
		return broken("", "%v", err)
	}
	if response.StatusCode == http.StatusOK {
		return doubtful("name the origins of your pages in origins", "pages of any origin may connect")
	}
	if d.origin == "" {
		return fine("pages of other origins are refused; give --origin to check yours")
	}
	if response, _, err = d.handshake(ctx, d.origin); err != nil {
		return broken("", "%v", err)
	}
	switch allowed := response.Header.Get("Access-Control-Allow-Origin"); {
	case response.StatusCode != http.StatusOK:
		return broken("add it to origins", "pages of %s are refused: %s", d.origin, response.Status)
	case allowed != d.origin && allowed != "*":
		return doubtful("it is fine if they have the same origin as the server; else have the proxy leave the header alone", "pages of %s are let in, but the answer allows %q", d.origin, allowed)
	}
	return fine("pages of %s may connect, and those of others not", d.origin)
}

// connect connects with these transports, for as long as f takes.
func (d *doctor) connect(ctx context.Context, transports []string, f func(context.Context, *socketio.Client, *socketio.Socket) finding) finding {
	auth := map[string]string{"client": "doctor"}
	if token := os.Getenv(tokenVariable); token != "" {
		auth["token"] = token
	}
	c := socketio.New(d.url, &socketio.Config{Auth: auth, Transports: transports, ReconnectAttempts: -1})
	defer c.Close()
	s := c.Of("/")
	connecting, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	err := s.Connect(connecting)
	if refused, ok := errors.AsType[*holdpost.ConnectError](err); ok {
		return doubtful(tokenHint, "the server is reached, and does not let us in: %s", refused.Message)
	}
	if err != nil {
		return broken(proxyHint, "%v", err)
	}
	return f(ctx, c, s)
}

func (d *doctor) checkTransport(ctx context.Context, transport string) finding {
	start := time.Now()
	return d.connect(ctx, []string{transport}, func(context.Context, *socketio.Client, *socketio.Socket) finding {
		d.works = append(d.works, transport)
		return fine("connected in %v", time.Since(start).Round(100*time.Microsecond))
	})
}

// checkUpgrade begins with polling, as the official client does.
func (d *doctor) checkUpgrade(ctx context.Context) finding {
	if len(d.works) == 0 {
		return skipped("the server does not let us in")
	}
	return d.connect(ctx, []string{"polling", "websocket"}, func(ctx context.Context, c *socketio.Client, _ *socketio.Socket) finding {
		ctx, cancel := context.WithTimeout(ctx, dialPatience)
		defer cancel()
		look := time.NewTicker(10 * time.Millisecond)
		defer look.Stop()
		for c.Transport() != "websocket" {
			select {
			case <-look.C:
			case <-ctx.Done():
				return broken(proxyHint+"\nwith several servers behind it, requests of one client must reach the same: use sticky sessions", "it stays on polling")
			}
		}
		return fine("from polling to WebSocket")
	})
}

// checkSize sends an event as large as the server takes, by a request of its own: proxies bound those.
func (d *doctor) checkSize(ctx context.Context) finding {
	if !slices.Contains(d.works, "polling") {
		return skipped("the server does not let us in by polling")
	}
	size := d.payload - sizeSlack
	return d.connect(ctx, []string{"polling"}, func(ctx context.Context, _ *socketio.Client, s *socketio.Socket) finding {
		ctx, cancel := context.WithTimeout(ctx, 2*dialPatience)
		defer cancel()
		// Any answer will do: there is no such event.
		if _, err := s.EmitWithAck(ctx, "doctor", strings.Repeat("x", size)); err != nil {
			return broken("let the proxy pass requests of that size; nginx: client_max_body_size 2m; Apache: LimitRequestBody", "an event of %d bytes does not get through: %v", size, err)
		}
		return fine("an event of %d bytes gets through", size)
	})
}

// checkQuiet holds a connection of each kind on which nothing is sent but heartbeats.
func (d *doctor) checkQuiet(ctx context.Context) finding {
	if len(d.works) == 0 || d.hold == 0 {
		return skipped("not tried")
	}
	lost := make([]string, len(d.works))
	var held sync.WaitGroup
	for i, t := range d.works {
		held.Go(func() {
			f := d.connect(ctx, []string{t}, func(ctx context.Context, _ *socketio.Client, s *socketio.Socket) finding {
				select {
				case <-time.After(d.hold):
				case <-s.Context().Done():
				case <-ctx.Done():
				}
				if err := s.Err(); err != nil {
					return broken("", "%v", err)
				}
				return fine("held")
			})
			if f.Result != "ok" {
				lost[i] = t + ": " + f.Detail
			}
		})
	}
	held.Wait()
	lost = slices.DeleteFunc(lost, func(l string) bool { return l == "" })
	if len(lost) > 0 {
		return broken("have the proxy wait longer than 45 s; nginx: proxy_read_timeout 60s; HAProxy: timeout client, timeout server and timeout tunnel 60s; Apache: ProxyPass with timeout=60\n"+proxyPage, "a quiet connection is lost within %v: %s", d.hold, strings.Join(lost, "; "))
	}
	return fine("connections last %v without anything being sent", d.hold)
}
