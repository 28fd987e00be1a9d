package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

const (
	defaultServer = "127.0.0.1:7301"
	// dialPatience and answerPatience bound the wait for a server to be there, and to begin its answer.
	dialPatience   = 5 * time.Second
	answerPatience = 30 * time.Second
	// maxAnswer bounds an answer: a page of events ends after about 4 MiB, and base64 makes attachments a third longer.
	maxAnswer = 16 << 20
	// maxPull is how long the server may be asked to wait for an event.
	maxPull = 30 * time.Second
)

// client talks to the API of a running server.
type client struct {
	base string // http://host:port
	http http.Client
}

// serverFlag adds the flag that says which server a command talks to.
func serverFlag(f *pflag.FlagSet) *string {
	return f.String("server", defaultServer, "`address` of the server's API, its internal listener")
}

func newClient(server string) (*client, error) {
	u, err := url.Parse("http://" + strings.TrimPrefix(server, "http://"))
	if err != nil || u.Hostname() == "" || u.Port() == "" || u.User != nil || strings.Trim(u.RequestURI(), "/") != "" {
		return nil, usage("write HOST:PORT, for example "+defaultServer, "invalid --server %q", server)
	}
	return &client{
		base: "http://" + u.Host,
		http: http.Client{
			// No proxy: the API is for the machine itself, and refuses requests that name another.
			Transport: &http.Transport{
				DialContext:           (&net.Dialer{Timeout: dialPatience}).DialContext,
				ResponseHeaderTimeout: answerPatience,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// problem is an error that the server answered.
type problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (p *problem) Error() string { return fmt.Sprintf("%s (%s)", p.Detail, p.Code) }

// absentError says that nobody was there to talk to: the request did nothing.
type absentError struct {
	base  string
	cause error
}

func (e *absentError) Error() string { return fmt.Sprintf("no server at %s: %v", e.base, e.cause) }
func (e *absentError) Unwrap() error { return e.cause }

// lostError says that the connection ended before the answer did.
type lostError struct {
	base  string
	cause error
}

func (e *lostError) Error() string { return fmt.Sprintf("lost the server at %s: %v", e.base, e.cause) }
func (e *lostError) Unwrap() error { return e.cause }

// strangerError says that something else answered.
type strangerError struct {
	base, what string
}

func (e *strangerError) Error() string {
	return fmt.Sprintf("what answers at %s is not the API of a Holdpost server: %s", e.base, e.what)
}

// do sends a request. The caller closes the body, whose type is the wanted one; every other answer is an error.
func (c *client) do(ctx context.Context, method, path string, body []byte, want string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if key := os.Getenv(apiKeyVariable); key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if response.StatusCode == http.StatusOK && kind == want || response.StatusCode == http.StatusNoContent && want == "" {
		return response.Body, nil
	}
	defer response.Body.Close()
	if kind == "application/problem+json" {
		p := new(problem)
		if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(p); err == nil && p.Code != "" {
			return nil, p
		}
	}
	return nil, &strangerError{c.base, "it says " + response.Status}
}

// call sends a request with in as its body, if it is not nil, and decodes the answer into out, if that is not nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answerPatience+maxPull, fmt.Errorf("no answer from %s", c.base))
	defer cancel()
	want := "application/json"
	if out == nil {
		want = ""
	}
	answer, err := c.do(ctx, method, path, body, want)
	if err != nil {
		return err
	}
	defer answer.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(out); err != nil {
		return c.explain(ctx, err)
	}
	return nil
}

// explain tells an address without a server from one whose server went away in the middle.
func (c *client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the URL, which the message has
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return &absentError{c.base, e.Err}
	}
	return &lostError{c.base, err}
}

// explained gives an error of the client its exit code and says what to do about it. What the server answered names what
// was asked for; before the other errors comes what was being done.
func explained(doing string, err error) *exitError {
	e := &exitError{code: exitFailed, err: fmt.Errorf("%s: %w", doing, err)}
	if p, ok := errors.AsType[*problem](err); ok {
		e.err = p
		switch p.Status {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			e.code = exitUsage
		case http.StatusServiceUnavailable:
			e.code = exitUnavailable
		case http.StatusUnauthorized:
			e.code = exitRefused
			e.hint = "set " + apiKeyVariable + " to a key that the server knows: holdpost token new --api makes one"
		case http.StatusForbidden:
			e.code = exitRefused
		}
	}
	if _, ok := errors.AsType[*absentError](err); ok {
		e.code = exitUnavailable
		e.hint = "start one: holdpost serve --dev\nor say where it is: --server HOST:PORT, the address that it shows as its API"
	}
	if _, ok := errors.AsType[*strangerError](err); ok {
		e.code = exitUnavailable
		e.hint = "use the address that the server shows as its API: --server HOST:PORT, by default " + defaultServer
	}
	return e
}
