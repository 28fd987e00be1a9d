package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/routers"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/internal/peertest"
	"github.com/holdpost/holdpost/queue"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/index"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// node is the API on a broker of its own.
type node struct {
	t       *testing.T
	handler http.Handler
	broker  *queue.Broker
	ready   error

	authority   *auth.Authority
	main        *holdpost.Namespace
	host        *peertest.Host
	revoked     int
	description routers.Router
	key         string // sent along, unless it is empty
}

func start(t *testing.T) *node {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	engine, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Logger: quiet, Level: embedded.LevelMemory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	x, err := index.Open(filepath.Join(dir, "index"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	n := &node{t: t}
	if n.broker, err = queue.Open(t.Context(), queue.Config{Engine: engine, Index: x, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.broker.Close() })
	n.serve(nil)
	return n
}

// serve makes the API anew, with API keys if there are any.
func (n *node) serve(keys []auth.APIKey) {
	n.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	var err error
	if n.authority, err = auth.New(auth.Config{APIKeys: keys}); err != nil {
		n.t.Fatal(err)
	}
	names := holdpost.NewKey[string]("name")
	identity := func(s *holdpost.Socket) string { name, _ := names.Get(s); return name }
	srv := holdpost.NewServer(&holdpost.Config{Logger: quiet})
	n.t.Cleanup(func() { srv.Close() })
	n.main = srv.Of("/")
	n.main.Use(func(_ context.Context, s *holdpost.Socket) error { names.Set(s, "ann"); return nil })
	post := delivery.New(delivery.Config{Broker: n.broker, Identity: identity, Logger: quiet})
	n.t.Cleanup(post.Close)
	post.Handle(n.main)
	n.host = peertest.New(n.t, srv)
	thing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reply(w, status{"here"}) })
	c := Config{
		Broker: n.broker, Namespace: n.main, Post: post, Identity: identity, Authority: n.authority, Revoked: func() { n.revoked++ },
		Ready: func(context.Context) error { return n.ready }, Host: "127.0.0.1", Logger: quiet,
		More: map[string]http.Handler{"/debug/thing": thing, "/v1/thing": thing},
	}
	n.handler = Handler(c)
	n.description = loadDescription(n.t, n.handler)
}

func (n *node) do(method, target, body string, header ...string) (int, map[string]any) {
	n.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:7301"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if r.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	if n.key != "" {
		r.Header.Set("Authorization", "Bearer "+n.key)
	}
	w := httptest.NewRecorder()
	n.handler.ServeHTTP(w, r)
	n.describes(r, w)
	var out map[string]any
	if w.Code == http.StatusNoContent {
		if w.Body.Len() > 0 {
			n.t.Errorf("%s %s: %q though there is no content", method, target, w.Body)
		}
		return w.Code, nil
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil && method != http.MethodHead {
		n.t.Fatalf("%s %s: %d: %v\n%s", method, target, w.Code, err, w.Body)
	}
	if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
		n.t.Errorf("%s %s: Access-Control-Allow-Origin %q", method, target, got)
	}
	wantType := "application/json"
	if w.Code >= 400 {
		wantType = "application/problem+json"
		if out["code"] == nil || out["detail"] == nil || out["status"] != float64(w.Code) {
			n.t.Errorf("%s %s: problem %v", method, target, out)
		}
	}
	if got := w.Header().Get("Content-Type"); got != wantType {
		n.t.Errorf("%s %s: content type %q, want %q", method, target, got, wantType)
	}
	return w.Code, out
}

func TestPublishAndRead(t *testing.T) {
	n := start(t)
	code, first := n.do("POST", "/v1/publish", `{"topic":"orders","event":"created","args":[{"id":7,"note":"<b>&"}],"id":"order-7"}`)
	if code != 200 || first["topic"] != "orders" || first["id"] != "order-7" || first["duplicate"] != false {
		t.Fatalf("publish: %d %v", code, first)
	}
	code, again := n.do("POST", "/v1/publish", `{"id":"order-7","args":[{"id":7,"note":"<b>&"}],"event":"created","topic":"orders"}`)
	if code != 200 || again["duplicate"] != true || again["offset"] != first["offset"] {
		t.Errorf("publish again: %d %v, want a duplicate at %v", code, again, first["offset"])
	}
	code, conflict := n.do("POST", "/v1/publish", `{"topic":"orders","event":"created","args":[8],"id":"order-7"}`)
	if code != 409 || conflict["code"] != "conflict" || conflict["first"] != first["offset"] {
		t.Errorf("publish another under the same id: %d %v", code, conflict)
	}
	if code, made := n.do("POST", "/v1/publish", `{"topic":"orders","event":"empty"}`); code != 200 || made["id"] == "" {
		t.Errorf("publish without id and args: %d %v", code, made)
	}

	code, page := n.do("GET", "/v1/topics/orders/events", "")
	events := page["events"].([]any)
	if code != 200 || len(events) != 2 || page["complete"] != true {
		t.Fatalf("read: %d %v", code, page)
	}
	e := events[0].(map[string]any)
	if args, _ := json.Marshal(e["args"]); e["event"] != "created" || e["offset"] != first["offset"] || !strings.Contains(string(args), `"id":7`) {
		t.Errorf("first event: %v", e)
	}
	if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(e["publishedAt"])); err != nil {
		t.Error(err)
	}
	code, page = n.do("GET", "/v1/topics/orders/events?limit=1&from="+url.QueryEscape(fmt.Sprint(first["offset"])), "")
	if events := page["events"].([]any); code != 200 || len(events) != 1 || events[0].(map[string]any)["event"] != "empty" {
		t.Errorf("read after the first: %d %v", code, page)
	}
	code, page = n.do("GET", "/v1/topics/orders/events?limit=1", "")
	if code != 200 || page["complete"] != false || page["next"] != first["offset"] {
		t.Errorf("first page of one: %d %v", code, page)
	}
}

func TestTopicsAreOneSegment(t *testing.T) {
	n := start(t)
	for _, topic := range []string{"a/b", "a//b", "//", "..", ".", "ä ü", "a%2Fb", "?x=1", "#", ">", "a.b"} {
		body, _ := json.Marshal(map[string]any{"topic": topic, "event": "e"})
		if code, out := n.do("POST", "/v1/publish", string(body)); code != 200 {
			t.Errorf("publish to %q: %d %v", topic, code, out)
			continue
		}
		segment := strings.ReplaceAll(url.PathEscape(topic), ".", "%2E")
		code, page := n.do("GET", "/v1/topics/"+segment+"/events", "")
		if events, _ := page["events"].([]any); code != 200 || len(events) != 1 || events[0].(map[string]any)["topic"] != topic {
			t.Errorf("read %q: %d %v", topic, code, page)
		}
	}
}

func TestRefusals(t *testing.T) {
	n := start(t)
	publish := func(body string) []string { return []string{"POST", "/v1/publish", body} }
	const ok = `{"topic":"t","event":"e"}`
	cases := []struct {
		request []string // method, target, body, headers
		status  int
		code    string
		detail  string // part of it
	}{
		{publish(`{"topic":"","event":"e"}`), 400, "invalid_topic", ""},
		{publish(`{"topic":"a\nb","event":"e"}`), 400, "invalid_topic", ""},
		{publish(`{"topic":"` + strings.Repeat("x", 256) + `","event":"e"}`), 400, "invalid_topic", ""},
		{publish(`{"topic":"t","event":""}`), 400, "invalid_event", ""},
		{publish(`{"topic":"t","event":"connect"}`), 400, "invalid_event", "reserved"},
		{publish(`{"topic":"t","event":"e","args":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`), 400, "invalid_args", "nest"},
		{publish(`{"topic":"t","event":"e","id":"` + strings.Repeat("x", 129) + `"}`), 400, "invalid_id", ""},
		{publish(`{"topic":"t","event":"e","args":["` + strings.Repeat("x", 1_000_000) + `"]}`), 413, "too_large", ""},
		{publish(`{"topic":"t","event":"e","args":["` + strings.Repeat("x", maxBody) + `"]}`), 413, "too_large", "body"},
		{publish(`{"topic":"t","event":"e","args":{}}`), 400, "invalid_request", `"args" is not an array`},
		{publish(`{"topic":"t","event":"e","args":null}`), 400, "invalid_request", `"args" is not an array`},
		{publish(`{"topic":"t","event":"e","ttl":"soon"}`), 400, "invalid_request", `"ttl" is not a duration`},
		{publish(`{"topic":"t","event":"e","delay":"-1s"}`), 400, "invalid_request", `"delay" is not a duration`},
		{publish(`{"topic":"t","event":7}`), 400, "invalid_request", `"event" is not a string`},
		{publish(`{"topic":"t","topic":"u","event":"e"}`), 400, "invalid_request", `"topic" stands there twice`},
		{publish(`{"topic":"t","event":"e","Args":[]}`), 400, "invalid_request", `"Args" is unknown`},
		{publish(`{"topic":"t"}`), 400, "invalid_request", `"event" is missing`},
		{publish(`{"topic":"t","event":"e"`), 400, "invalid_request", "JSON"},
		{publish(ok + ok), 400, "invalid_request", "after the object"},
		{publish(`[` + ok + `]`), 400, "invalid_request", "not a JSON object"},
		{publish("\xff"), 400, "invalid_request", "UTF-8"},
		{publish(`{"topic":"t","event":"e","args":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`), 400, "invalid_request", "args"},
		{append(publish(ok), "Content-Type", "text/plain"), 415, "unsupported_type", ""},
		{append(publish(ok), "Content-Type", "application/x-www-form-urlencoded"), 415, "unsupported_type", ""},
		{append(publish(ok), "Content-Encoding", "gzip"), 415, "unsupported_type", ""},
		{append(publish(ok), "Origin", "https://evil.example"), 403, "cross_origin", ""},
		{append(publish(ok), "Sec-Fetch-Site", "cross-site"), 403, "cross_origin", ""},
		{append(publish(ok), "Host", "evil.example:7301"), 403, "forbidden_host", ""},
		{append(publish(ok), "Host", "localhost.evil.example"), 403, "forbidden_host", ""},
		{append(publish(ok), "Host", "192.168.1.4:7301"), 403, "forbidden_host", ""},
		{[]string{"GET", "/v1/publish", ""}, 405, "method_not_allowed", "POST"},
		{[]string{"DELETE", "/v1/topics/t/events", ""}, 405, "method_not_allowed", "GET"},
		{[]string{"GET", "/", ""}, 404, "not_found", ""},
		{[]string{"GET", "/v2/publish", ""}, 404, "not_found", ""},
		{[]string{"GET", "/v1/topics/a/b/events", ""}, 404, "not_found", ""},
		{[]string{"GET", "/v1/topics/t/events?from=yesterday", ""}, 400, "invalid_offset", "yesterday"},
		{[]string{"GET", "/v1/topics/t/events?from=~AAAA", ""}, 400, "invalid_offset", ""},
		{[]string{"GET", "/v1/topics/t/events?limit=-1", ""}, 400, "invalid_request", "limit"},
		{[]string{"GET", "/v1/topics/t/events?limit=NaN", ""}, 400, "invalid_request", "limit"},
		{[]string{"GET", "/v1/topics/t/events?limit=0", ""}, 400, "invalid_request", "limit"},
		{[]string{"GET", "/v1/topics/t/events?follow=maybe", ""}, 400, "invalid_request", "follow"},
		{[]string{"GET", "/v1/topics/t/events?form=first", ""}, 400, "invalid_request", `"form" is unknown`},
		{[]string{"GET", "/v1/topics/t/events?limit=1&limit=2", ""}, 400, "invalid_request", "2 times"},
		{[]string{"GET", "/v1/topics/%0A/events?follow=true", ""}, 400, "invalid_topic", ""},
	}
	for _, c := range cases {
		status, out := n.do(c.request[0], c.request[1], c.request[2], c.request[3:]...)
		name := fmt.Sprintf("%.80q", c.request)
		if status != c.status || out["code"] != c.code || !strings.Contains(fmt.Sprint(out["detail"]), c.detail) {
			t.Errorf("%s:\n got %d %v\nwant %d %s, detail with %q", name, status, out, c.status, c.code, c.detail)
		}
	}
}

func TestHosts(t *testing.T) {
	keyed, err := auth.New(auth.Config{APIKeys: []auth.APIKey{{Name: "app", Hash: sha256.Sum256([]byte("hpk_a-key"))}}})
	if err != nil {
		t.Fatal(err)
	}
	ready := func(context.Context) error { return nil }
	handlers := map[string]http.Handler{
		"127.0.0.1, keyed": Handler(Config{Ready: ready, Host: "127.0.0.1", Authority: keyed}),
		"0.0.0.0, keyed":   Handler(Config{Ready: ready, Host: "0.0.0.0", Authority: keyed}),
	}
	for _, host := range []string{"127.0.0.1", "", "0.0.0.0", "::", "internal.example"} {
		handlers[host] = Handler(Config{Ready: ready, Host: host})
	}
	for _, c := range []struct {
		listen, host string
		want         int
	}{
		{"127.0.0.1", "127.0.0.1:7301", 200}, {"127.0.0.1", "localhost:7301", 200}, {"127.0.0.1", "LOCALHOST", 200},
		{"127.0.0.1", "[::1]:7301", 200}, {"127.0.0.1", "[::1]", 200}, {"127.0.0.1", "127.8.8.8", 200}, {"127.0.0.1", "[::ffff:127.0.0.1]:1", 200},
		{"127.0.0.1", "10.0.0.1", 403}, {"127.0.0.1", "", 403}, {"127.0.0.1", "127.0.0.1.evil.example", 403}, {"127.0.0.1", "a@localhost", 403},
		{"0.0.0.0", "10.0.0.1:7301", 200}, {"::", "[fd00::1]:7301", 200}, {"", "10.0.0.1", 200}, {"0.0.0.0", "evil.example", 403}, {"", "", 403},
		{"0.0.0.0, keyed", "holdpost:7301", 200}, {"0.0.0.0, keyed", "", 403}, {"127.0.0.1, keyed", "holdpost:7301", 403}, {"127.0.0.1, keyed", "localhost:7301", 200},
		{"internal.example", "internal.example:7301", 200}, {"internal.example", "10.0.0.1", 403}, {"internal.example", "localhost", 200},
	} {
		r := httptest.NewRequest("GET", "/livez", nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		handlers[c.listen].ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("listening on %q, Host %q: %d, want %d", c.listen, c.host, w.Code, c.want)
		}
	}
}

func TestHealth(t *testing.T) {
	n := start(t)
	if code, out := n.do("GET", "/livez", ""); code != 200 {
		t.Errorf("livez: %d %v", code, out)
	}
	if code, out := n.do("GET", "/readyz", ""); code != 200 {
		t.Errorf("readyz: %d %v", code, out)
	}
	n.ready = errors.New("draining")
	if code, out := n.do("GET", "/readyz", ""); code != 503 || out["code"] != "not_ready" || out["detail"] != "draining" {
		t.Errorf("readyz while draining: %d %v", code, out)
	}
	if code, out := n.do("GET", "/livez", ""); code != 200 {
		t.Errorf("livez while draining: %d %v", code, out)
	}
}

func TestClosedBroker(t *testing.T) {
	n := start(t)
	n.broker.Close()
	if code, out := n.do("POST", "/v1/publish", `{"topic":"t","event":"e"}`); code != 503 || out["code"] != "closed" {
		t.Errorf("publish: %d %v", code, out)
	}
	if code, out := n.do("GET", "/v1/topics/t/events", ""); code != 503 || out["code"] != "closed" {
		t.Errorf("read: %d %v", code, out)
	}
	if code, out := n.do("GET", "/v1/topics/t/events?follow=true", ""); code != 503 || out["code"] != "closed" {
		t.Errorf("follow: %d %v", code, out)
	}
}

// followed is a client that follows a topic over a real connection.
func followed(t *testing.T, server *httptest.Server, query string) (*bufio.Scanner, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/v1/topics/t/events?follow=true&"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "application/x-ndjson" {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("follow: %d %q\n%s", resp.StatusCode, got, body)
	}
	return bufio.NewScanner(resp.Body), cancel
}

func (n *node) publishN(from, to int) {
	n.t.Helper()
	for i := from; i < to; i++ {
		if _, err := n.broker.Publish(n.t.Context(), queue.Message{Topic: "t", Event: "n", Args: fmt.Appendf(nil, "[%d]", i)}); err != nil {
			n.t.Fatal(err)
		}
	}
}

func wantNumbers(t *testing.T, lines *bufio.Scanner, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if !lines.Scan() {
			t.Fatalf("the stream ended before %d: %v", i, lines.Err())
		}
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || string(e.Args) != fmt.Sprintf("[%d]", i) {
			t.Fatalf("line %d: %s %v", i, lines.Bytes(), err)
		}
	}
}

func TestFollowGoesFromStoredToLive(t *testing.T) {
	n := start(t)
	server := httptest.NewServer(n.handler)
	t.Cleanup(server.Close) // after the clients, which it waits for
	n.publishN(0, 3*ahead)  // more than waits for one client
	lines, cancel := followed(t, server, "from=first")
	wantNumbers(t, lines, 0, 3*ahead)
	n.publishN(3*ahead, 3*ahead+10)
	wantNumbers(t, lines, 3*ahead, 3*ahead+10)
	cancel()
	if lines.Scan() {
		t.Errorf("after the client went: %s", lines.Bytes())
	}
}

func TestFollowEndsAtItsLimit(t *testing.T) {
	n := start(t)
	server := httptest.NewServer(n.handler)
	t.Cleanup(server.Close) // after the clients, which it waits for
	n.publishN(0, 5)
	lines, _ := followed(t, server, "from=first&limit=3")
	wantNumbers(t, lines, 0, 3)
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the limit: %q, %v", lines.Bytes(), lines.Err())
	}
}

func TestFollowFromNew(t *testing.T) {
	n := start(t)
	server := httptest.NewServer(n.handler)
	t.Cleanup(server.Close) // after the clients, which it waits for
	n.publishN(0, 5)
	lines, _ := followed(t, server, "from=new")
	n.publishN(5, 8)
	wantNumbers(t, lines, 5, 8)
}

func TestGapsAreToldEvenToAFullFeed(t *testing.T) {
	f := &feed{more: make(chan struct{}, 1)}
	for i := range ahead {
		if !f.Deliver(queue.Delivery{Event: &queue.Event{}}) {
			t.Fatalf("event %d found no room", i)
		}
	}
	if f.Deliver(queue.Delivery{Event: &queue.Event{}}) {
		t.Error("the feed is not bounded")
	}
	f.Gap(queue.Gap{Topic: "t"})
	f.Flush()
	f.Flush()
	<-f.more
	if items := f.take(); len(items) != ahead+1 || items[ahead].gap == nil {
		t.Errorf("%d items, the gap is not the last", len(items))
	}
}
