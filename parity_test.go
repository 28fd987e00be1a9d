package holdpost_test

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The features that docs/parity.md has to say something about.
const features = "F001-F025 F030-F038 F040-F052 F060-F068 F070-F076 F080-F097 F100-F114 F120-F124 F130-F138 F140-F145 F150-F157 " +
	"F160-F174 F180-F187 F190-F208 F210-F213 F220-F236 F240-F244 F250-F256 F260-F264 F270-F276 F280-F284 F290-F292 F300-F302 " +
	"F310-F315 F320-F324 F330-F337 F340-F354 F360-F372 F380-F385 F390-F395 G01-G15"

// TestParity: every feature has its line, and every test named there exists.
func TestParity(t *testing.T) {
	b, err := os.ReadFile("docs/parity.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	rows := make(map[string]bool)
	open := 0
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !regexp.MustCompile(`^[FG]\d+$`).MatchString(cells[0]) {
			continue
		}
		if len(cells) != 4 || cells[2] == "" {
			t.Errorf("%s: want feature, parity, why, test: %q", cells[0], line)
			continue
		}
		id, verdict, named := cells[0], cells[1], cells[3]
		if rows[id] {
			t.Errorf("%s: there twice", id)
		}
		rows[id] = true
		switch verdict {
		case "yes", "better", "different":
			if !tests[named] {
				t.Errorf("%s: there is no test %q", id, named)
			}
		case "not":
			if named != "–" && !tests[named] {
				t.Errorf("%s: there is no test %q", id, named)
			}
		case "open":
			open++
		default:
			t.Errorf("%s: parity is %q", id, verdict)
		}
	}
	all := expand(t, features)
	for _, id := range all {
		if !rows[id] {
			t.Errorf("%s: missing", id)
		}
		delete(rows, id)
	}
	for id := range rows {
		t.Errorf("%s: no such feature", id)
	}
	t.Logf("%d of %d lines are open", open, len(all))
}

// expand lists what ranges stand for: "F001-F003" is F001, F002, F003.
func expand(t *testing.T, ranges string) (all []string) {
	for _, r := range strings.Fields(ranges) {
		first, last, ok := strings.Cut(r, "-")
		from, err := strconv.Atoi(first[1:])
		to, err2 := strconv.Atoi(last[1:])
		if !ok || err != nil || err2 != nil {
			t.Fatalf("range %q", r)
		}
		for n := from; n <= to; n++ {
			all = append(all, fmt.Sprintf("%c%0*d", r[0], len(first)-1, n))
		}
	}
	return all
}

// testNames returns the names of all tests and fuzz targets of the module.
func testNames(t *testing.T) map[string]bool {
	names := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{"node_modules", ".git", "testdata"}, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declared.FindAllStringSubmatch(string(b), -1) {
			names[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
