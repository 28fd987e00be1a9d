package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost/internal/auth"
	"github.com/holdpost/holdpost/internal/peertest"
)

const (
	shopKey  = "the key of the shop, which is long"
	adminKey = "the key of the admin, which is long"
)

var withKeys = []auth.APIKey{
	{Name: "shop", Hash: sha256.Sum256([]byte(shopKey)), Permissions: auth.Permissions{
		Publish: []string{"orders"}, Subscribe: []string{"orders"}, Work: []string{"packers"}, Send: []string{"lobby"}, Join: []string{"lobby"},
	}},
	{Name: "admin", Hash: sha256.Sum256([]byte(adminKey)), Permissions: auth.All()},
}

// want makes a request, which must be answered with the status and a text like this.
func (n *node) want(status int, like, method, target, body string) map[string]any {
	n.t.Helper()
	code, out := n.do(method, target, body)
	b, _ := json.Marshal(out)
	if code != status || !strings.Contains(string(b), like) {
		n.t.Errorf("%s %s %s: %d %s, want %d with %s", method, target, body, code, b, status, like)
	}
	return out
}

func TestPermissionsOfKeys(t *testing.T) {
	n := start(t)
	n.serve(withKeys)
	n.key = adminKey
	n.want(200, "", "PUT", "/v1/queues/packers?topic=orders", "")
	n.want(200, "", "PUT", "/v1/queues/others?topic=orders", "")
	n.key = shopKey
	for _, c := range []struct {
		method, target, body string
		want                 int
	}{
		{"POST", "/v1/publish", `{"topic":"orders","event":"e"}`, 200},
		{"POST", "/v1/publish", `{"topic":"other","event":"e"}`, 403},
		{"GET", "/v1/topics/orders", "", 200},
		{"GET", "/v1/topics/other", "", 403},
		{"GET", "/v1/topics/orders/events", "", 200},
		{"GET", "/v1/topics/other/events", "", 403},
		{"GET", "/v1/topics/other/events?follow=true", "", 403},
		{"GET", "/v1/queues/packers/events?topic=orders", "", 200},
		{"POST", "/v1/queues/packers/pull?topic=orders", "", 200},
		{"POST", "/v1/queues/others/pull?topic=orders", "", 403},
		{"POST", "/v1/queues/others/ack?topic=orders", `{"events":[{"offset":"~","attempt":1}]}`, 403},
		{"POST", "/v1/emit", `{"event":"e","rooms":["lobby"]}`, 204},
		{"POST", "/v1/emit", `{"event":"e","rooms":["lobby","den"]}`, 403},
		{"POST", "/v1/emit", `{"event":"e"}`, 403},
		{"GET", "/v1/presence/lobby", "", 200},
		{"GET", "/v1/presence/den", "", 403},
	} {
		if code, out := n.do(c.method, c.target, c.body); code != c.want {
			t.Errorf("%s %s %s: %d %v, want %d", c.method, c.target, c.body, code, out, c.want)
		}
	}
}

func TestTopicsAndQueues(t *testing.T) {
	n := start(t)
	n.want(200, `{"complete":true,"topics":[]}`, "GET", "/v1/topics", "")
	n.want(200, `"maxEvents":2`, "PUT", "/v1/topics/orders", `{"maxEvents":2,"ttl":"1h"}`)
	n.want(400, `duration as in`, "PUT", "/v1/topics/orders", `{"ttl":7}`)
	n.want(400, `unknown field`, "PUT", "/v1/topics/orders", `{"tll":"1h"}`)
	n.want(400, `invalid_topic`, "PUT", "/v1/topics/orders", `{"maxEvents":-1}`)
	for _, topic := range []string{"orders", "payments", "visits"} {
		n.want(200, "", "POST", "/v1/publish", fmt.Sprintf(`{"topic":%q,"event":"e","args":[1],"key":"k","ttl":"1h"}`, topic))
	}
	n.want(200, `"offset":""`, "POST", "/v1/publish", `{"topic":"later","event":"e","delay":"1h"}`)
	n.want(200, `{"complete":false,"topics":["orders","payments"]}`, "GET", "/v1/topics?limit=2", "")
	n.want(200, `{"complete":true,"topics":["visits"]}`, "GET", "/v1/topics?limit=2&after=payments", "")
	n.want(200, `"events":1`, "GET", "/v1/topics/orders", "")
	n.want(404, `not_found`, "GET", "/v1/topics/none", "")
	n.want(204, "", "DELETE", "/v1/topics/visits", "")
	n.want(404, `not_found`, "GET", "/v1/topics/visits", "")
	n.want(405, `GET or PUT or DELETE`, "POST", "/v1/topics/orders", "")

	n.want(404, `not_found`, "GET", "/v1/queues/packers?topic=orders", "")
	n.want(400, `topic`, "GET", "/v1/queues/packers", "")
	n.want(200, `"unread":1`, "PUT", "/v1/queues/packers?topic=orders", `{"from":"first","ackTimeout":"1m","maxDeliveries":3}`)
	n.want(400, `invalid_offset`, "PUT", "/v1/queues/other?topic=orders", `{"from":"yesterday"}`)
	n.want(200, `"maxDeliveries":3`, "GET", "/v1/queues/packers?topic=orders", "")
	n.want(200, `"queue":"packers"`, "GET", "/v1/queues", "")
	n.want(200, `{"complete":true,"queues":[]}`, "GET", "/v1/queues?topic=other", "")
	n.want(200, `"attempt":0`, "GET", "/v1/queues/packers/events?topic=orders", "")
	n.want(200, `"paused":true`, "POST", "/v1/queues/packers/pause?topic=orders", "")
	n.want(200, `"events":[]`, "POST", "/v1/queues/packers/pull?topic=orders", `{"most":10}`)
	n.want(200, `"paused":false`, "POST", "/v1/queues/packers/resume?topic=orders", "")
	n.want(200, `"unread":0`, "POST", "/v1/queues/packers/purge?topic=orders", "")
	n.want(204, "", "DELETE", "/v1/queues/packers?topic=orders", "")
	n.want(404, `not_found`, "DELETE", "/v1/queues/packers?topic=orders", "")
}

func TestWhatAPublishMaySay(t *testing.T) {
	n := start(t)
	attachments := func(n int) string { return `["AQI="` + strings.Repeat(`,""`, n-1) + `]` }
	publish := func(status int, like, more string) map[string]any {
		t.Helper()
		return n.want(status, like, "POST", "/v1/publish", `{"topic":"files","event":"put",`+more+`}`)
	}
	const first = `"args":[{"_placeholder":true,"num":0}]`
	last := publish(200, `"duplicate":false`, first+`,"attachments":`+attachments(1))["offset"].(string)
	n.want(200, `"args":[{"_placeholder":true,"num":0}],"attachments":["AQI="]`, "GET", "/v1/topics/files/events", "")
	publish(200, "", first+`,"attachments":`+attachments(10))
	publish(400, "invalid_args", first+`,"attachments":`+attachments(11))
	publish(400, "invalid_args", `"args":[{"_placeholder":true,"num":1}],"attachments":`+attachments(1))
	publish(400, "base64", first+`,"attachments":["%"]`)
	publish(400, "base64", first+`,"attachments":"AQI="`)
	publish(413, "too_large", first+`,"attachments":["`+strings.Repeat("AAAA", 333_334)+`"]`)

	publish(409, "wrong_last", `"expectLast":"`+last+`"`)
	publish(409, "wrong_last", `"expectLast":""`)
	publish(400, "not an offset", `"expectLast":"7"`)
	n.want(200, `"duplicate":false`, "POST", "/v1/publish", `{"topic":"new","event":"e","expectLast":""}`)

	publish(200, `"offset":""`, `"at":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`","id":"once"`)
	publish(400, "RFC 3339", `"at":"tomorrow"`)
	publish(400, "invalid_delay", `"at":"2120-01-01T00:00:00Z","delay":"1h"`)
}

func TestWorkOverHTTP(t *testing.T) {
	n := start(t)
	n.want(200, "", "PUT", "/v1/queues/packers?topic=jobs", `{"backoff":["0s"],"maxDeliveries":2,"receipts":true}`)
	for i := range 4 {
		n.want(200, "", "POST", "/v1/publish", fmt.Sprintf(`{"topic":"jobs","event":"pack","args":[%d]}`, i))
	}
	pull := func(most int) (all []taken) { // a pull may bring fewer than it asks for
		t.Helper()
		for len(all) < most {
			out := n.want(200, "", "POST", "/v1/queues/packers/pull?topic=jobs", fmt.Sprintf(`{"most":%d,"wait":"10s"}`, most-len(all)))
			for _, e := range out["events"].([]any) {
				e := e.(map[string]any)
				all = append(all, taken{e["offset"].(string), int(e["attempt"].(float64))})
			}
			if t.Failed() {
				t.FailNow()
			}
		}
		return all
	}
	body := func(more string, all ...taken) string {
		b, _ := json.Marshal(all)
		return `{"events":` + string(b) + more + `}`
	}
	first := pull(4)
	n.want(200, `"settled":1`, "POST", "/v1/queues/packers/ack?topic=jobs", body("", first[0]))
	n.want(200, `"code":"not_in_flight"`, "POST", "/v1/queues/packers/ack?topic=jobs", body("", first[0]))
	n.want(200, `"settled":1`, "POST", "/v1/queues/packers/extend?topic=jobs", body("", first[1]))
	n.want(200, `"settled":1`, "POST", "/v1/queues/packers/nack?topic=jobs", body(`,"reject":"too heavy"`, first[1]))
	n.want(200, `"settled":2`, "POST", "/v1/queues/packers/nack?topic=jobs", body(`,"retry":"0s"`, first[2], first[3]))
	again := pull(1)
	if again[0] != (taken{first[2].Offset, 2}) {
		t.Errorf("what came again is %v", again)
	}
	n.want(200, `"dead":`, "GET", "/v1/queues/packers?topic=jobs", "")
	n.want(200, `too heavy`, "GET", "/v1/topics/dead%2Fpackers/events", "")
	n.want(200, `"events":1`, "POST", "/v1/queues/packers/redrive?topic=jobs", "")

	for n.t.Context().Err() == nil { // receipts are stored within a second
		_, out := n.do("GET", "/v1/queues/packers/receipts?topic=jobs", "")
		if b, _ := json.Marshal(out); strings.Contains(string(b), `"what":"acked"`) && strings.Contains(string(b), `"reason":"too heavy"`) {
			break
		}
	}
	n.want(200, `"complete":false`, "GET", "/v1/queues/packers/receipts?topic=jobs&limit=1", "")
	n.want(200, `"receipts":[]`, "GET", "/v1/queues/packers/receipts?topic=jobs&since=2120-01-01T00:00:00Z", "")
	n.want(400, `RFC 3339`, "GET", "/v1/queues/packers/receipts?topic=jobs&since=today", "")

	for _, c := range []struct{ path, body string }{
		{"pull", `{"most":0}`}, {"pull", `{"most":1001}`}, {"pull", `{"wait":"31s"}`}, {"pull", `{"wait":"-1s"}`},
		{"ack", `{}`}, {"ack", `{"events":[]}`}, {"nack", body(`,"retry":"1s","reject":"x"`, first[0])}, {"nack", body(`,"retry":"-1s"`, first[0])},
	} {
		n.want(400, "invalid_request", "POST", "/v1/queues/packers/"+c.path+"?topic=jobs", c.body)
	}
	n.want(200, `"code":"invalid_offset"`, "POST", "/v1/queues/packers/ack?topic=jobs", `{"events":[{"offset":"x","attempt":1}]}`)
}

func TestBatch(t *testing.T) {
	n := start(t)
	batch := func(body string) (int, []map[string]any) {
		t.Helper()
		r := httptest.NewRequest("POST", "/v1/publish", strings.NewReader(body))
		r.Host = "127.0.0.1"
		r.Header.Set("Content-Type", "application/x-ndjson")
		w := httptest.NewRecorder()
		n.handler.ServeHTTP(w, r)
		var all []map[string]any
		d := json.NewDecoder(w.Body)
		for d.More() {
			var one map[string]any
			if err := d.Decode(&one); err != nil {
				t.Fatal(err)
			}
			all = append(all, one)
		}
		return w.Code, all
	}
	code, all := batch(`{"topic":"t","event":"a","id":"1"}
{"topic":"t","event":"disconnect"}

{"topic":"t"
{"topic":"t","event":"b","id":"1"}
{"topic":"t","event":"a","id":"1"}
{"topic":"t","event":"c"}`)
	if code != 200 || len(all) != 6 {
		t.Fatalf("%d %v", code, all)
	}
	for i, want := range []string{`"duplicate":false`, `invalid_event`, `invalid_request`, `conflict`, `"duplicate":true`, `"duplicate":false`} {
		if b, _ := json.Marshal(all[i]); !strings.Contains(string(b), want) {
			t.Errorf("line %d: %s, want %s", i, b, want)
		}
	}
	line := `{"topic":"many","event":"e"}` + "\n"
	if code, all := batch(strings.Repeat(line, maxBatch)); code != 200 || len(all) != maxBatch {
		t.Errorf("as many as may be: %d, %d results", code, len(all))
	}
	if code, all := batch(strings.Repeat(line, maxBatch+1)); code != 413 {
		t.Errorf("one too many: %d %v", code, all)
	}
	if code, _ := batch(line + strings.Repeat(" ", maxBatchBytes-len(line))); code != 200 {
		t.Errorf("as large as may be: %d", code)
	}
	if code, _ := batch(line + strings.Repeat(" ", maxBatchBytes-len(line)+1)); code != 413 {
		t.Errorf("too large: %d", code)
	}
	_, page := n.do("GET", "/v1/topics/many/events?limit=1000", "")
	if events := page["events"].([]any); len(events) != maxBatch {
		t.Errorf("%d events are stored", len(events))
	}
}

func TestSockets(t *testing.T) {
	n := start(t)
	n.want(200, `{"complete":true,"count":0,"sockets":[]}`, "GET", "/v1/sockets", "")
	n.want(404, "not_found", "GET", "/v1/sockets/x", "")
	var ids []string
	var peers []*peertest.Peer
	for range 3 {
		p := n.host.Connect(peertest.WebSocket, "User-Agent", "test", "Authorization", "Bearer hidden")
		p.Send(`40{"token":"hidden"}`)
		var hs struct{ SID string }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(p.Next(), "40")), &hs); err != nil {
			t.Fatal(err)
		}
		ids, peers = append(ids, hs.SID), append(peers, p)
	}
	out := n.want(200, `"complete":false,"count":3`, "GET", "/v1/sockets?limit=2", "")
	list := out["sockets"].([]any)
	last := list[1].(map[string]any)["id"].(string)
	n.want(200, `"complete":true,"count":3`, "GET", "/v1/sockets?limit=2&after="+last, "")
	if b, _ := json.Marshal(out); strings.Contains(string(b), "hidden") {
		t.Errorf("a secret is told: %s", b)
	}
	n.want(200, `"identity":"ann"`, "GET", "/v1/sockets/"+ids[0], "")
	n.want(200, `"rooms":["den","lobby"]`, "POST", "/v1/sockets/"+ids[0]+"/join", `{"rooms":["lobby","den"]}`)
	n.want(400, "invalid_name", "POST", "/v1/sockets/"+ids[0]+"/join", `{"rooms":[""]}`)
	n.want(200, `"rooms":["lobby"]`, "POST", "/v1/sockets/"+ids[1]+"/join", `{"rooms":["lobby"]}`)
	n.want(200, `{"complete":true,"rooms":[{"room":"den","sockets":1},{"room":"lobby","sockets":2}]}`, "GET", "/v1/rooms", "")
	n.want(200, `{"complete":false,"rooms":[{"room":"den","sockets":1}]}`, "GET", "/v1/rooms?limit=1", "")
	n.want(200, `"identities":["ann"]`, "GET", "/v1/presence/lobby", "")

	n.want(204, "", "POST", "/v1/emit", `{"event":"news","args":[1,"two"],"rooms":["lobby"],"except":["den"]}`)
	peers[1].Want("in the room", `42["news",1,"two"]`)
	n.want(204, "", "POST", "/v1/emit", `{"event":"file","args":[{"_placeholder":true,"num":0}],"attachments":["AQI="],"rooms":["den"]}`)
	peers[0].Want("an attachment", `451-["file",{"_placeholder":true,"num":0}]`, "binary 0102")
	n.want(400, "invalid_args", "POST", "/v1/emit", `{"event":"file","args":[{"_placeholder":true,"num":1}],"attachments":["AQI="]}`)
	n.want(204, "", "POST", "/v1/emit", `{"event":"all"}`)
	for _, p := range peers {
		p.Want("everybody", `42["all"]`)
	}
	n.want(400, "invalid_event", "POST", "/v1/emit", `{"event":"connect"}`)
	n.want(400, "invalid_args", "POST", "/v1/emit", `{"event":"e","args":{}}`)
	n.want(200, `"rooms":[]`, "POST", "/v1/sockets/"+ids[1]+"/leave", `{"rooms":["lobby"]}`)
	n.want(200, "", "POST", "/v1/sockets/"+ids[1]+"/disconnect", "")
	peers[1].Want("the end", "41")

	n.want(204, "", "POST", "/v1/identities/ann/revoke", "")
	if n.revoked != 1 {
		t.Error("nobody was told of the revocation")
	}
	n.want(400, "invalid_identity", "POST", "/v1/identities/"+strings.Repeat("x", 256)+"/revoke", "")
}

// Who is revoked is turned out though the caller has gone away, which is stored all the same, and though it can't be stored.
func TestRevokedWhateverHappens(t *testing.T) {
	n := start(t)
	if err := n.authority.Remember(t.Context(), n.broker); err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequestWithContext(gone, "POST", "/v1/identities/ann/revoke", nil)
	r.Host = "127.0.0.1:7301"
	n.handler.ServeHTTP(httptest.NewRecorder(), r)
	if kept, err := n.broker.Kept(t.Context(), ""); err != nil || kept["revoked/ann"] == nil || n.revoked != 1 {
		t.Errorf("without its caller: kept %q, %v, told %d times", kept, err, n.revoked)
	}
	n.broker.Close()
	n.want(503, "closed", "POST", "/v1/identities/bob/revoke", "")
	if n.revoked != 2 {
		t.Error("not stored: nobody was told of the revocation")
	}
	n.want(400, "invalid_identity", "POST", "/v1/identities/"+strings.Repeat("x", 256)+"/revoke", "")
	if n.revoked != 2 {
		t.Error("refused: somebody was told of a revocation")
	}
}
