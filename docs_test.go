package holdpost_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/holdpost/holdpost"
)

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What the README shows is what the examples are, which run in the conformance tests.
func TestReadmeShowsTheExamples(t *testing.T) {
	readme := text(t, "README.md")
	program := text(t, "examples/chat/main.go")
	program = program[strings.Index(program, "package main"):]
	for language, source := range map[string]string{"go": program, "js": text(t, "examples/orders/orders.mjs")} {
		if !strings.Contains(readme, "```"+language+"\n"+source+"```\n") {
			t.Errorf("README.md does not have this as it is:\n%s", source)
		}
	}
}

// The codes that stand in the source, in the ways in which it writes them.
var codes = []*regexp.Regexp{
	regexp.MustCompile(`\bCode: +"([a-z_]+)"`),                // Error{Code: "x"}, problem{Code: "x"}
	regexp.MustCompile(`\bCode[A-Z]\w* += "([a-z_]+)"`),       // const CodeX = "x"
	regexp.MustCompile(`\b(?:refuse|checkName)\("([a-z_]+)"`), // package queue
	regexp.MustCompile(`\{Err\w+, "([a-z_]+)"\}`),             // queue.Code
	regexp.MustCompile(`\{context\.\w+, "([a-z_]+)"\}`),
	regexp.MustCompile(`"code": "([a-z_]+)"`), // data of a connect_error
}

func TestErrorCodesAreDocumented(t *testing.T) {
	documented := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(text(t, "docs/errors.md"), -1) {
		if documented[m[1]] {
			t.Errorf("code %s stands in docs/errors.md twice", m[1])
		}
		documented[m[1]] = true
	}
	used := make(map[string]string)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"node_modules", "bench", "conformance", "examples", "peertest"}, d.Name()) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source := text(t, path)
		for _, re := range codes {
			for _, m := range re.FindAllStringSubmatch(source, -1) {
				used[m[1]] = path
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range slices.Sorted(maps.Keys(used)) {
		if !documented[code] {
			t.Errorf("%s uses the code %s, which docs/errors.md does not have", used[code], code)
		}
		delete(documented, code)
	}
	for code := range documented {
		t.Errorf("docs/errors.md has the code %s, which nothing uses", code)
	}
}

func TestDesignHasEveryPackage(t *testing.T) {
	design := text(t, "docs/design.md")
	for _, p := range listPackages(t) {
		if name := relative(p.ImportPath); name != "" && !strings.Contains(design, "`"+name+"`") {
			t.Errorf("the map in docs/design.md lacks package %s", name)
		}
	}
}

func TestDesignHasEveryDependency(t *testing.T) {
	design := text(t, "docs/design.md")
	for line := range strings.Lines(text(t, "go.mod")) {
		module, _, required := strings.Cut(strings.TrimSpace(line), " v")
		if !required || strings.Contains(line, "// indirect") {
			continue
		}
		module = regexp.MustCompile(`/v[0-9]+$`).ReplaceAllString(module, "")
		if !strings.Contains(design, "://"+module+")") && !strings.Contains(design, "://pkg.go.dev/"+module+")") {
			t.Errorf("docs/design.md gives no reason for %s", module)
		}
	}
}

func TestIndexOfTheDocuments(t *testing.T) {
	index := text(t, "docs/README.md")
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(index, "("+name+")") {
			t.Errorf("docs/README.md lacks %s", name)
		}
	}
}

// anchors returns what links into a page may name: its headings, as they are made to on the repository's host.
func anchors(page string) map[string]bool {
	all := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(page, -1) {
		heading := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all[strings.ReplaceAll(heading, " ", "-")] = true
	}
	return all
}

func TestLinksOfTheDocuments(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`") // which has brackets and number signs too
	for _, page := range append(pages, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(code.ReplaceAllString(text(t, page), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if m[2] != "" && !anchors(regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text(t, target), ""))[m[2]] {
				t.Errorf("%s links to %s#%s, which has no such heading", page, m[1], m[2])
			}
		}
	}
}

// What docs/migrating.md writes of the library is there: methods and fields, by what its variables are called.
func TestNamesOfTheMigration(t *testing.T) {
	types := map[string]reflect.Type{
		"srv": reflect.TypeFor[*holdpost.Server](), "ns": reflect.TypeFor[*holdpost.Namespace](), "s": reflect.TypeFor[*holdpost.Socket](),
		"Config": reflect.TypeFor[holdpost.Config](), "Recovery": reflect.TypeFor[holdpost.Recovery](),
	}
	page := text(t, "docs/migrating.md")
	right := regexp.MustCompile(`(?m)^\|[^|\n]*\|(.*)\|$`) // the column of ours
	seen := 0
	for _, row := range right.FindAllStringSubmatch(page, -1) {
		for _, m := range regexp.MustCompile(`\b(srv|ns|s|Config|Recovery)\.([A-Z]\w*)`).FindAllStringSubmatch(row[1], -1) {
			seen++
			of := types[m[1]]
			_, there := of.MethodByName(m[2])
			if of.Kind() == reflect.Struct && !there {
				_, there = of.FieldByName(m[2])
			}
			if !there {
				t.Errorf("docs/migrating.md has %s, which there is not", m[0])
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d names were found", seen)
	}
}
