package app

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
)

// benchPlan says what a bench does.
type benchPlan struct {
	scenario  string
	url       string
	identity  string
	transport string
	event     string
	clients   int
	size      int
	duration  time.Duration
	ramp      float64 // new clients a second
	rate      float64 // operations a second of all clients; 0 is as fast as they are answered
}

func (p *benchPlan) check() error {
	switch {
	case scenarios[p.scenario] == nil:
		known := slices.Sorted(maps.Keys(scenarios))
		return usage(suggest(p.scenario, known, "there are: "+strings.Join(known, ", ")), "unknown scenario %q", p.scenario)
	case p.clients < 1 || p.clients > 100_000:
		return usage("", "--clients %d is not a number from 1 to 100000", p.clients)
	case p.size < 0 || p.size > 1_000_000:
		return usage("", "--size %d is not a number from 0 to 1000000", p.size)
	case p.duration <= 0 || p.ramp <= 0 || p.rate < 0:
		return usage("", "--duration and --ramp are above zero, --rate not below")
	case p.transport != "websocket" && p.transport != "polling":
		return usage("", "--transport %q is neither websocket nor polling", p.transport)
	}
	return nil
}

func newBench() *cobra.Command {
	p := benchPlan{}
	var asJSON bool
	var about strings.Builder
	for _, name := range slices.Sorted(maps.Keys(scenarios)) {
		fmt.Fprintf(&about, "\n  %-9s%s", name, scenarios[name].about)
	}
	cmd := &cobra.Command{
		Use:   "bench SCENARIO",
		Short: "Load a server, and measure it",
		Long: `Connect clients to a server, have them do something for a while, and print how much was done, how
long it took (percentiles), and what it cost the server. Latency is counted from when an operation
was due: one that had to wait for a slow one before it took longer.

What the clients do:` + about.String() + `

A Holdpost server in dev mode takes the clients as bench-1, bench-2 and so on; another one the token of
HOLDPOST_TOKEN, for all of them. The server's memory and CPU are told if its API is at --server.
Limits of the server may be in the way: of connections by address or identity, and of events a second.`,
		Example: `  holdpost bench publish --clients 64 --duration 30s
  holdpost bench room --clients 1000 --rate 50
  holdpost bench connect --clients 10000 --ramp 1000
  holdpost bench ack --event ping --url https://example.com     # any Socket.IO server`,
		Args:      positional(false, "SCENARIO"),
		ValidArgs: slices.Sorted(maps.Keys(scenarios)),
	}
	f := cmd.Flags()
	server := serverFlag(f)
	f.StringVar(&p.url, "url", "http://127.0.0.1:7300", "`URL` of the server, its public listener")
	f.StringVar(&p.identity, "identity", "bench", "what the identities begin with, for a server in dev mode")
	f.StringVar(&p.transport, "transport", "websocket", "websocket or polling")
	f.StringVar(&p.event, "event", "echo", "event that the scenario ack sends")
	f.IntVar(&p.clients, "clients", 50, "how many clients")
	f.IntVar(&p.size, "size", 128, "bytes that each event carries besides its name")
	f.DurationVar(&p.duration, "duration", 10*time.Second, "how long, once all are connected")
	f.Float64Var(&p.ramp, "ramp", 200, "how many clients connect a second")
	f.Float64Var(&p.rate, "rate", 0, "operations a second, of all clients together; 0: each as soon as its last one is answered")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	cmd.RunE = command(func(cmd *cobra.Command, args []string) error {
		p.scenario = args[0]
		if err := p.check(); err != nil {
			return err
		}
		api, err := newClient(*server)
		if err != nil {
			return err
		}
		defer api.close()
		b := newBenchRun(p, api, cmd.ErrOrStderr())
		if _, ok := terminal(cmd.ErrOrStderr()); ok {
			b.progress = cmd.ErrOrStderr()
		}
		result, err := b.run(cmd.Context())
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(result)
		}
		return result.print(cmd.OutOrStdout())
	})
	return cmd
}

// benchResult is what a bench has measured. Times are in milliseconds.
type benchResult struct {
	Scenario   string         `json:"scenario"`
	URL        string         `json:"url"`
	Transport  string         `json:"transport"`
	Clients    int            `json:"clients"`
	Seconds    float64        `json:"seconds"`
	Operations int64          `json:"operations"`
	PerSecond  float64        `json:"perSecond"`
	Errors     map[string]int `json:"errors"` // by code
	Connect    *percentiles   `json:"connect"`
	Latency    *percentiles   `json:"latency,omitempty"`
	Server     *benchCost     `json:"server,omitempty"` // if it told
}

type percentiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Top float64 `json:"p99_9"`
	Max float64 `json:"max"`
}

func newPercentiles(h *hdrhistogram.Histogram) *percentiles {
	if h.TotalCount() == 0 {
		return nil
	}
	ms := func(percent float64) float64 { return float64(h.ValueAtPercentile(percent)) / 1000 }
	return &percentiles{ms(50), ms(90), ms(99), ms(99.9), float64(h.Max()) / 1000}
}

func (p *percentiles) String() string {
	return fmt.Sprintf("p50 %.4g ms   p90 %.4g ms   p99 %.4g ms   p99.9 %.4g ms   max %.4g ms", p.P50, p.P90, p.P99, p.Top, p.Max)
}

// benchCost is what the server says that it took.
type benchCost struct {
	BytesPerConnection float64 `json:"bytesPerConnection"` // resident
	ConnectCPU         float64 `json:"connectCPU"`         // microseconds of processor for each client that connected
	OperationCPU       float64 `json:"operationCPU"`       // and for each operation
}

func (r *benchResult) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "scenario", r.Scenario)
	row(w, "server", r.URL+" over "+r.Transport)
	row(w, "clients", r.Clients)
	if r.Connect != nil {
		row(w, "connecting", r.Connect)
	}
	if r.Scenario != "connect" {
		row(w, "operations", fmt.Sprintf("%d in %.1f s, %.0f a second", r.Operations, r.Seconds, r.PerSecond))
	}
	if r.Latency != nil {
		row(w, "latency", r.Latency)
	}
	for _, code := range slices.Sorted(maps.Keys(r.Errors)) {
		row(w, "errors", fmt.Sprintf("%d %s", r.Errors[code], code))
	}
	if r.Server != nil {
		row(w, "memory", fmt.Sprintf("%.1f KB a connection", r.Server.BytesPerConnection/1000))
		cpu := fmt.Sprintf("%.0f µs a connection", r.Server.ConnectCPU)
		if r.Operations > 0 {
			cpu += fmt.Sprintf(", %.1f µs an operation", r.Server.OperationCPU)
		}
		row(w, "processor", cpu)
	}
	return w.Flush()
}
