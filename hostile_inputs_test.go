package holdpost_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The tests that docs/reliability.md names are there, and it has every kind of hostile input: of compression (Z), origins (O), tokens
// (J), operating (A), hooks (K), publishing (P), configuration and command line (X).
func TestReliabilityNamesTests(t *testing.T) {
	page := text(t, "docs/reliability.md")
	for _, m := range regexp.MustCompile("(?:`([a-z/]+)`|(root)): ((?:(?:Test|Fuzz)\\w+|\\w+\\.txt)(?:, (?:(?:Test|Fuzz)\\w+|\\w+\\.txt))*)").FindAllStringSubmatch(page, -1) {
		dir := m[1]
		if m[2] != "" {
			dir = "."
		}
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no tests", dir)
		}
		var source strings.Builder
		for _, file := range files {
			source.WriteString(text(t, file))
		}
		for name := range strings.SplitSeq(m[3], ", ") {
			if strings.HasSuffix(name, ".txt") {
				if _, err := os.Stat(filepath.Join(dir, "testdata", name)); err != nil {
					t.Error(err)
				}
			} else if !strings.Contains(source.String(), "func "+name+"(") {
				t.Errorf("%s has no %s", dir, name)
			}
		}
	}
	_, table, _ := strings.Cut(page, "## Hostile inputs")
	table, _, _ = strings.Cut(table, "\n## ")
	var got, want []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z]\d+(?:, [A-Z]\d+)*) \|.*(?:Test|Fuzz)`).FindAllStringSubmatch(table, -1) {
		got = append(got, strings.Split(m[1], ", ")...)
	}
	for kind, most := range map[string]int{"Z": 5, "O": 6, "J": 15, "A": 10, "K": 5, "P": 4, "X": 3} {
		for i := range most {
			want = append(want, fmt.Sprint(kind, i+1))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the table has %q, want %q", got, want)
	}
}
