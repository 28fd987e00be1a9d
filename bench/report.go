//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/holdpost/holdpost/bench/load"
)

type report struct {
	Machine string            `json:"machine"`
	Peers   map[string]string `json:"peers"` // versions
	Passes  int               `json:"passes"`
	Quick   bool              `json:"quick"`
	Seconds float64           `json:"seconds"`
	Rows    []*row            `json:"rows"`

	order   []string
	samples map[string][]float64 // by scenario/metric/peer
}

type row struct {
	Scenario string                  `json:"scenario"`
	Metric   string                  `json:"metric"`
	Title    string                  `json:"title"`
	Unit     string                  `json:"unit"`
	Peers    map[string]load.Summary `json:"peers"`
	// Ratio is holdpost's median over npm's. Nil where one is missing.
	Ratio *float64 `json:"ratio,omitempty"`
	// Target says what issue 2 asks for, Met whether it is reached. Empty and nil where it asks for nothing, or where a quick run cannot tell.
	Target string `json:"target,omitempty"`
	Met    *bool  `json:"met,omitempty"`

	target target
}

func newReport(o options, builds map[string]*build) *report {
	r := &report{
		Machine: machine(),
		Peers:   map[string]string{},
		Passes:  o.passes,
		Quick:   o.quick,
		order:   o.peers,
		samples: map[string][]float64{},
	}
	for name, b := range builds {
		r.Peers[name] = b.version
	}
	for _, s := range o.scenarios {
		for _, m := range s.metrics {
			r.Rows = append(r.Rows, &row{Scenario: s.name, Metric: m.key, Title: m.title, Unit: m.unit, target: m.target})
		}
	}
	return r
}

func (r *report) add(s scenario, peer string, f figures) {
	for key, v := range f {
		k := s.name + "/" + key + "/" + peer
		r.samples[k] = append(r.samples[k], v)
	}
}

// finish turns the samples into rows.
func (r *report) finish() {
	for _, row := range r.Rows {
		row.Peers = map[string]load.Summary{}
		for _, peer := range r.order {
			if v := r.samples[row.Scenario+"/"+row.Metric+"/"+peer]; len(v) > 0 {
				row.Peers[peer] = load.Summarize(v)
			}
		}
		row.judge()
	}
	// A row that nobody has a figure for says nothing.
	r.Rows = slices.DeleteFunc(r.Rows, func(row *row) bool { return len(row.Peers) == 0 })
}

func (row *row) judge() {
	ours, ok := row.Peers["holdpost"]
	theirs, both := row.Peers["npm"]
	both = both && ok && theirs.Median > 0
	if both {
		ratio := ours.Median / theirs.Median
		row.Ratio = &ratio
	}
	var met bool
	switch t := row.target; {
	case t.ratio > 0:
		row.Target = fmt.Sprintf("≤ %.2g ×", t.ratio)
		if !both {
			return
		}
		met = *row.Ratio <= t.ratio
	case t.value > 0:
		row.Target = fmt.Sprintf("≤ %s %s", number(t.value), row.Unit)
		if !ok {
			return
		}
		met = ours.Median <= t.value
	default:
		return
	}
	row.Met = &met
}

// print writes a table that is Markdown as it stands.
func (r *report) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s\n", r.Machine)
	for _, name := range r.order {
		fmt.Fprintf(w, "%s: %s\n", name, r.Peers[name])
	}
	kind := ""
	if r.Quick {
		kind = " (quick: short and small, not a result)"
	}
	fmt.Fprintf(w, "median (min–max) of %d interleaved passes%s, %.0f s\n\n", r.Passes, kind, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintf(t, "| scenario\t| figure\t| %s\t| ratio\t| target\t| met\t|\n", strings.Join(r.order, "\t| "))
	fmt.Fprintf(t, "|---\t|---\t|%s---\t|---\t|---\t|\n", strings.Repeat("---\t|", len(r.order)))
	for i, row := range r.Rows {
		name := row.Scenario
		if i > 0 && r.Rows[i-1].Scenario == name {
			name = ""
		}
		fmt.Fprintf(t, "| %s\t| %s (%s)\t|", name, row.Title, row.Unit)
		for _, peer := range r.order {
			fmt.Fprintf(t, " %s\t|", spread(row.Peers[peer]))
		}
		ratio, met := "", ""
		if row.Ratio != nil {
			ratio = fmt.Sprintf("%.2f", *row.Ratio)
		}
		if row.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*row.Met]
		}
		fmt.Fprintf(t, " %s\t| %s\t| %s\t|\n", ratio, row.Target, met)
	}
	return t.Flush()
}

func spread(s load.Summary) string {
	switch s.N {
	case 0:
		return "–"
	case 1:
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
}

// number prints three significant digits, and all digits of what is larger.
func number(v float64) string {
	if a := math.Abs(v); a > 0 && a < 99.95 {
		return fmt.Sprintf("%.*f", max(0, 2-int(math.Floor(math.Log10(a)))), v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// machine names what the figures were measured on.
func machine() string {
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d × %s, Linux %s, %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), runtime.GOARCH)
}
