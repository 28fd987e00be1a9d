package holdpost_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/holdpost/holdpost"

// floors says who may import whom: a package may import those of lower floors only. A package that is not listed fails
// the test, so that a new one must be given its place first.
var floors = [][]string{
	0: {"internal/filelock", "internal/frame", "internal/leaktest", "internal/natstest", "internal/outbound", "internal/packet", "internal/rooms", "internal/serial", "internal/engineio/wire"},
	1: {"internal/engineio", "internal/packet/msgpack", "internal/peertest", "queue/internal/guard"},
	2: {"", "queue"},
	3: {"internal/auth", "client", "delivery", "queue/embedded", "queue/external", "queue/index", "webtransport"},
	4: {"holdposttest", "internal/api", "internal/config", "internal/console", "internal/gate", "internal/history", "internal/hooks", "internal/metrics", "queue/local"},
	5: {"internal/app", "conformance", "conformance/parsers", "bench", "bench/client", "bench/endure", "bench/load", "bench/program", "bench/queue", "bench/target", "internal/faults", "examples/chat"},
	6: {"cmd/holdpost"},
}

// strangers may not import each other though a floor would allow it.
var strangers = map[string][]string{
	"":               {"queue"},
	"queue":          {""},
	"queue/embedded": {"", "delivery", "queue/external", "queue/index"},
	"queue/external": {"", "delivery", "queue/embedded", "queue/index"},
	"queue/index":    {"", "delivery", "queue/embedded"},
	"client":         {"delivery", "queue"},
	"delivery":       {"queue/embedded", "queue/index"},
}

// outside lists the modules, besides the standard library, that the packages of a floor or below may use; "deps" says
// which of them may be anywhere in a package's import graph.
var outside = map[string][]string{
	"internal/frame":          {},
	"internal/packet":         {},
	"internal/packet/msgpack": {"github.com/tinylib/msgp", "github.com/philhofer/fwd"},
	"internal/rooms":          {},
	"internal/serial":         {},
	"internal/engineio/wire":  {},
	"internal/engineio":       {"golang.org/x/sys"},
	"":                        {"golang.org/x/sys", "github.com/tinylib/msgp", "github.com/philhofer/fwd"},
	"client":                  {"golang.org/x/sync", "golang.org/x/sys", "github.com/tinylib/msgp", "github.com/philhofer/fwd"},
	"queue":                   {"github.com/nats-io/nats.go", "github.com/nats-io/nkeys", "github.com/nats-io/nuid", "github.com/klauspost/compress", "golang.org/x/crypto", "golang.org/x/sys", "golang.org/x/text"},
}

func TestFloors(t *testing.T) {
	floorOf := make(map[string]int)
	for floor, packages := range floors {
		for _, p := range packages {
			floorOf[p] = floor
		}
	}
	for _, p := range listPackages(t) {
		name := relative(p.ImportPath)
		floor, placed := floorOf[name]
		if !placed {
			t.Errorf("package %q is on no floor: give it one in floors", name)
			continue
		}
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module) {
				continue
			}
			other := relative(imported)
			if otherFloor, ok := floorOf[other]; ok && otherFloor >= floor && !strings.HasPrefix(name, "bench") {
				t.Errorf("%q (floor %d) imports %q (floor %d)", name, floor, other, otherFloor)
			}
			if slices.Contains(strangers[name], other) {
				t.Errorf("%q imports %q: they are strangers", name, other)
			}
		}
		allowed, limited := outside[name]
		if !limited {
			continue
		}
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, module) || !strings.Contains(strings.Split(dep, "/")[0], ".") {
				continue
			}
			if !slices.ContainsFunc(allowed, func(m string) bool { return dep == m || strings.HasPrefix(dep, m+"/") }) {
				t.Errorf("%q depends on %q", name, dep)
			}
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range listPackages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("package %q has no package comment", relative(p.ImportPath))
		}
	}
}

// exported says how many names a package may export; methods and fields do not count.
var exported = map[string]int{"": 80, "queue": 35, "client": 20, "delivery": 25}

func TestExportedNames(t *testing.T) {
	for _, p := range listPackages(t) {
		limit, limited := exported[relative(p.ImportPath)]
		if !limited {
			continue
		}
		var names []string
		for _, file := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Recv == nil {
						names = append(names, d.Name.Name)
					}
				case *ast.GenDecl:
					for _, spec := range d.Specs {
						switch spec := spec.(type) {
						case *ast.TypeSpec:
							names = append(names, spec.Name.Name)
						case *ast.ValueSpec:
							for _, n := range spec.Names {
								names = append(names, n.Name)
							}
						}
					}
				}
			}
		}
		names = slices.DeleteFunc(names, func(n string) bool { return !ast.IsExported(n) })
		if len(names) > limit {
			t.Errorf("package %q exports %d names, more than %d: %q", relative(p.ImportPath), len(names), limit, names)
		}
		t.Logf("%q exports %d names of %d", relative(p.ImportPath), len(names), limit)
	}
}

type goPackage struct {
	ImportPath, Doc, Dir   string
	Imports, Deps, GoFiles []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Dir,Imports,Deps,GoFiles", "./...").Output()
	if err != nil {
		t.Fatal(explain(err))
	}
	var packages []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		if err := dec.Decode(&p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func explain(err error) string {
	if exit, ok := err.(*exec.ExitError); ok {
		return fmt.Sprintf("%v: %s", err, exit.Stderr)
	}
	return err.Error()
}

func relative(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}
