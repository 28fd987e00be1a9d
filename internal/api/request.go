package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdpost/holdpost/internal/auth"
)

const (
	// maxBody bounds a request: the most that the broker takes as one event, a third longer if it is base64, and room for the
	// object around it.
	maxBody = 1_000_000*4/3 + 64<<10
	// maxSmall bounds a request without an event.
	maxSmall = 256 << 10

	defaultLimit = 100
	maxLimit     = 1000
)

// need is what a request must bring along.
type need int

const (
	nothing  need = iota // health is told to everybody
	toManage             // an API key with the permission to manage
	byName               // an API key with a permission for what the request names: its handler asks for it
)

// clientKey is the key of the context's value that says who sent the request.
type clientKey struct{}

// keyed returns a handler behind the API key. Without keys, whoever reaches this listener may do everything.
func (a *api) keyed(needs need, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if needs == nothing || a.Authority == nil || !a.Authority.NeedsKey() {
			next(w, r)
			return
		}
		scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			a.refuse(w, r, &auth.Error{Code: "unauthorized", Detail: "send Authorization: Bearer and an API key"})
			return
		}
		client, err := a.Authority.Key(strings.TrimSpace(key))
		if err == nil && needs == toManage {
			err = a.Authority.Verdict(client, auth.Manage, "")
		}
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		next(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, client)))
	})
}

// verdict tells whether whoever sent the request may do something.
func (a *api) verdict(r *http.Request, action auth.Action, name string) error {
	client, ok := r.Context().Value(clientKey{}).(*auth.Client)
	if !ok { // there are no keys
		return nil
	}
	return a.Authority.Verdict(client, action, name)
}

// allow is verdict that answers the request with the error.
func (a *api) allow(w http.ResponseWriter, r *http.Request, action auth.Action, name string) bool {
	if err := a.verdict(r, action, name); err != nil {
		a.refuse(w, r, err)
		return false
	}
	return true
}

// readBody reads a body of one type and at most so many bytes. Nothing but JSON: a form of a foreign page can't have this type.
func readBody(w http.ResponseWriter, r *http.Request, want string, most int64) ([]byte, bool) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != want {
		fail(w, problem{Status: http.StatusUnsupportedMediaType, Code: "unsupported_type", Detail: "send " + want})
		return nil, false
	}
	if r.Header.Get("Content-Encoding") != "" {
		fail(w, problem{Status: http.StatusUnsupportedMediaType, Code: "unsupported_type", Detail: "send the body without a content encoding"})
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			fail(w, problem{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Detail: fmt.Sprintf("the body is larger than %d bytes", most)})
		}
		return nil, false // else the client went away
	}
	return body, true
}

// decode reads a body that is one JSON object with known members. An empty body is an empty object.
func decode(w http.ResponseWriter, r *http.Request, into any, most int64) bool {
	if r.ContentLength == 0 && r.Header.Get("Content-Type") == "" {
		return true
	}
	body, ok := readBody(w, r, "application/json", most)
	if !ok {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		badRequest(w, "the body: %v", err)
		return false
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		badRequest(w, "there is something after the object")
		return false
	}
	return true
}

// query is what the parameters of a URL can say.
type query struct {
	from    string
	after   string
	topic   string
	since   time.Time
	limit   int
	limited bool // limit was given
	follow  bool
}

// read takes the parameters that the request may have, or answers what is wrong with them.
func (q *query) read(w http.ResponseWriter, r *http.Request, known ...string) bool {
	err := q.parse(r, known)
	if err != nil {
		badRequest(w, "%v", err)
	}
	return err == nil
}

func (q *query) parse(r *http.Request, known []string) error {
	for name, values := range r.URL.Query() {
		if len(values) != 1 {
			return fmt.Errorf("parameter %q stands there %d times", name, len(values))
		}
		i := 0
		for i < len(known) && known[i] != name {
			i++
		}
		if i == len(known) {
			return fmt.Errorf("parameter %q is unknown: there are %s", name, strings.Join(known, ", "))
		}
		switch value := values[0]; name {
		case "from":
			q.from = value
		case "after":
			q.after = value
		case "topic":
			q.topic = value
		case "since":
			since, err := time.Parse(time.RFC3339, value)
			if err != nil {
				return fmt.Errorf("since %q is not an RFC 3339 time", value)
			}
			q.since = since
		case "limit":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil && !errors.Is(err, strconv.ErrRange) || n < 1 {
				return fmt.Errorf("limit %q is not a number above 0", value)
			}
			q.limit, q.limited = int(min(n, 1<<31-1)), true // too large is as good as no limit
		case "follow":
			follow, err := strconv.ParseBool(value)
			if err != nil {
				return fmt.Errorf("follow %q is neither true nor false", value)
			}
			q.follow = follow
		}
	}
	return nil
}

// span is a duration as text, as in "30s".
type span time.Duration

// UnmarshalJSON implements [json.Unmarshaler].
func (s *span) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return errors.New("a duration as in \"30s\" is expected")
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration as in \"30s\"", text)
	}
	*s = span(d)
	return nil
}

// MarshalJSON implements [json.Marshaler].
func (s span) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).String()) }
