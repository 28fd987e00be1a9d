package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/leaktest"
	"github.com/holdpost/holdpost/internal/peertest"
	"github.com/holdpost/holdpost/queue/embedded"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func sample() *Metrics {
	return New(Sources{func() int { return 1 }, func() int { return 2 }, func() int { return 3 }, func() bool { return true }, func() embedded.Scrub {
		return embedded.Scrub{Done: time.Unix(5, 0), Files: 6, Bytes: 7, Damaged: []embedded.Damage{{From: 1, To: 8}}}
	}, func() time.Time { return time.Unix(9, 0) }})
}

func read(m *Metrics) string {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestWhatIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := sample()
		srv := holdpost.NewServer(&holdpost.Config{Logger: slog.New(slog.DiscardHandler), PingInterval: -1})
		defer srv.Close()
		main := srv.Of("/")
		m.Watch(main)
		main.On("join", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { return nil, nil })
		main.On("send", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) {
			return nil, &holdpost.Error{Code: "forbidden"}
		})
		main.On("odd", func(context.Context, *holdpost.Socket, holdpost.Args) ([]any, error) { return nil, errors.New("x") })
		main.Wrap(func(ctx context.Context, s *holdpost.Socket, _ string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
			reply, err := next(ctx, s, args)
			if errors.Is(err, holdpost.ErrUnhandled) {
				err = &holdpost.Error{Code: holdpost.CodeUnknownEvent}
			}
			return reply, err
		})
		p := peertest.New(t, srv).Connect(peertest.WebSocket)
		p.Send("40")
		p.Next()
		for i, event := range []string{"join", "join", "send", "odd"} {
			p.Send(fmt.Sprintf("42%d[%q]", i, event))
			p.Next()
		}
		for i := range 100 { // whatever clients call their events
			p.Send(fmt.Sprintf("421%d[\"event%d\"]", i, i))
			p.Next()
		}
		p.Send("41")
		synctest.Wait()
		text := read(m)
		for _, want := range []string{
			`holdpost_connections 1`, `holdpost_sockets 2`, `holdpost_queued_bytes 3`, `holdpost_store_healthy 1`,
			`holdpost_store_damaged_messages 8`, `holdpost_store_scrubbed_timestamp_seconds 5`, `holdpost_store_scrubbed_bytes_total 7`, `holdpost_store_scrubbed_files_total 6`, `holdpost_certificate_expiry_timestamp_seconds 9`,
			`holdpost_connects_total{recovered="false"} 1`, `holdpost_disconnects_total{reason="client namespace disconnect"} 1`,
			`holdpost_refused_total{by="gate"} 0`,
			`holdpost_operations_total{code="ok",operation="join"} 2`, `holdpost_operations_total{code="forbidden",operation="send"} 1`,
			`holdpost_operations_total{code="internal",operation="other"} 1`, `holdpost_operations_total{code="unknown_event",operation="other"} 100`,
			`holdpost_operation_seconds_count{operation="join"} 2`,
		} {
			if !strings.Contains(text, "\n"+want+"\n") {
				t.Errorf("no line %s in\n%s", want, text)
			}
		}
	})
}

// Dashboard and alerts use what there is.
func TestDashboardAndAlertsUseWhatThereIs(t *testing.T) {
	known := map[string]bool{"process_open_fds": true, "process_max_fds": true, "process_resident_memory_bytes": true, "process_cpu_seconds_total": true, "process_start_time_seconds": true, "go_goroutines": true, "go_sched_latencies_seconds": true}
	for _, d := range definitions {
		known[d.name] = d.kind != "histogram"
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			known[d.name+suffix] = d.kind == "histogram"
		}
	}
	for _, file := range []string{"../../deploy/grafana.json", "../../docs/operations.md"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".json") {
			var board struct {
				Panels []struct{ Targets []struct{ Expr string } }
			}
			if err := json.Unmarshal(b, &board); err != nil || len(board.Panels) == 0 || len(board.Panels[0].Targets) == 0 {
				t.Errorf("%s is no dashboard: %v", file, err)
			}
		}
		found := regexp.MustCompile(`\b(holdpost|process|go)_[a-z_]+`).FindAllString(string(b), -1)
		for _, name := range found {
			if !known[name] {
				t.Errorf("%s uses %s, which there is not", file, name)
			}
		}
		if len(found) < 5 {
			t.Errorf("%s uses no more than %q", file, found)
		}
	}
}

// The page lists what there is, and all of it.
func TestReferencePage(t *testing.T) {
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil || string(b) != Reference() {
		t.Errorf("docs/metrics.md is not what the code says (%v); it should be\n%s", err, Reference())
	}
	m := sample()
	m.connects.WithLabelValues("true")
	m.disconnects.WithLabelValues("x")
	m.operations.WithLabelValues("x", "x")
	m.seconds.WithLabelValues("x")
	m.Request("GET /v1/topics/{topic}", 200, 0)
	m.Hook("mail", true, 0)
	there := make(map[string]string)
	for _, l := range regexp.MustCompile(`(?m)^# TYPE (holdpost_\w+) (\w+)$`).FindAllStringSubmatch(read(m), -1) {
		there[l[1]] = l[2]
	}
	for _, d := range definitions {
		if there[d.name] != d.kind {
			t.Errorf("%s is a %q, and described as a %s", d.name, there[d.name], d.kind)
		}
		delete(there, d.name)
	}
	if len(there) > 0 {
		t.Errorf("not described: %v", there)
	}
}
