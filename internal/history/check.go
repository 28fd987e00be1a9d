package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Rule is what a history can break.
type Rule string

const (
	Lost        Rule = "lost"        // a stored event is not there any more, or a queue let go of one that nobody acknowledged
	Phantom     Rule = "phantom"     // what was never published, or otherwise, was there
	Resurrected Rule = "resurrected" // what was rejected was there
	Backwards   Rule = "backwards"   // an event got a lower offset than one that was stored before it was published
	Reuse       Rule = "reuse"       // one offset means two events, or one event has two offsets
	Early       Rule = "early"       // an event that is for later was there before
	Expired     Rule = "expired"     // an event was handed out after its time
	Disorder    Rule = "disorder"    // a queue handed out an earlier event for the first time after a later one
	Hole        Rule = "hole"        // a queue passed over an event, and told nobody
	Repeat      Rule = "repeat"      // an event came again, and neither was its attempt higher nor was the process another
	Shared      Rule = "shared"      // an event of a shared queue had two consumers at a time
	Again       Rule = "again"       // what was acknowledged for good came again
	Gapped      Rule = "gapped"      // a gap was told where nothing had been taken
	Limit       Rule = "limit"       // an event was delivered too often, or was given up too early, or twice
	Untrue      Rule = "untrue"      // a receipt tells what nobody saw or did
	Untold      Rule = "untold"      // a queue that keeps receipts has none that says how an event ended
	Unfinished  Rule = "unfinished"  // the history does not reach its end, so that nothing can be said about losses
)

// Violation is one breach of a rule.
type Violation struct {
	Rule   Rule
	Detail string // which event, where, and what speaks against it
}

func (v Violation) String() string { return string(v.Rule) + ": " + v.Detail }

// Report is what [Check] found.
type Report struct {
	Counts     map[Kind]int // events of the history
	Violations []Violation  // of one rule no more than 20
	More       int          // violations beyond that
}

// Broken returns the rules that were broken, in alphabetical order.
func (r Report) Broken() []Rule {
	rules := map[Rule]bool{}
	for _, v := range r.Violations {
		rules[v.Rule] = true
	}
	return slices.Sorted(maps.Keys(rules))
}

// String is for people: what the history had in it, and a line for each violation.
func (r Report) String() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, "%d %s, ", r.Counts[k], k)
	}
	fmt.Fprintf(&b, "%d violations", len(r.Violations)+r.More)
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "\n\t%s", v)
	}
	return b.String()
}

const mostOfARule = 20

// report collects violations.
type report struct {
	Report
	perRule map[Rule]int
}

func (r *report) violate(rule Rule, format string, args ...any) {
	if r.perRule[rule]++; r.perRule[rule] > mostOfARule {
		r.More++
		return
	}
	r.Violations = append(r.Violations, Violation{rule, fmt.Sprintf(format, args...)})
}

// Check returns everything that is wrong with a history. It looks at all of it twice: first for what is in the topics and
// where, then for what became of it in the queues.
func Check(events []Event) Report {
	r := &report{Report: Report{Counts: map[Kind]int{}}, perRule: map[Rule]int{}}
	l := &log{report: r, ends: map[uint64]uint64{}, survived: map[place]place{}, topics: map[string]*topic{}, ids: map[[2]string]*entry{}, places: map[place]*entry{}}
	for _, e := range events {
		r.Counts[e.Kind]++
		l.observe(e)
	}
	l.conclude()
	rs := &readers{log: l, queues: map[string]*reader{}}
	kept := newReceipts(rs)
	for i, e := range events {
		rs.observe(i, e)
		kept.observe(e)
	}
	rs.conclude()
	kept.conclude()
	return r.Report
}
