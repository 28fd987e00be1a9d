package holdpost_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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

func TestLinksOfTheDocuments(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md") {
		prose := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllString(text(t, page), "") // code has brackets too
		for _, m := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}
