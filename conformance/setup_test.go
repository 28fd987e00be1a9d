//go:build unix

package conformance

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdpost/holdpost/internal/leaktest"
)

// Paths of what TestMain has made sure of.
var (
	artifacts string // absolute
	binary    string
	chromium  string
	python    string // has the client for Python
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !testing.Short() {
		if err := setUp(); err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
			os.Exit(1)
		}
	}
	leaktest.Main(m)
}

func setUp() (err error) {
	if artifacts, err = filepath.Abs("artifacts"); err != nil {
		return err
	}
	if err := os.MkdirAll(artifacts, 0o755); err != nil {
		return err
	}
	if _, err := program("node"); err != nil {
		return err
	}
	if _, err := program("npm"); err != nil {
		return err
	}
	if chromium, err = program("chromium", "chromium-browser", "google-chrome"); err != nil {
		return err
	}
	if python, err = pythonWith("socketio"); err != nil {
		return err
	}
	for _, dir := range []string{".", "../examples"} {
		if err := packages(dir); err != nil {
			return err
		}
	}
	if err := command("..", "make", "client"); err != nil { // so that the binary has the playground
		return err
	}
	binary = filepath.Join(artifacts, "holdpost")
	build := []string{"build", "-o", binary}
	if os.Getenv("HOLDPOST_RACE") != "" {
		build = append(build, "-race")
	}
	return command(".", "go", append(build, "../cmd/holdpost")...)
}

// program finds the first of several names.
func program(names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: make test installs it on Debian", names[0])
}

// pythonWith finds a Python that has a module: Debian's own first, which others may stand before in the path.
func pythonWith(module string) (string, error) {
	for _, path := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(path, "-c", "import "+module).Run() == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("python3 with %s is not installed: make test installs it on Debian", module)
}

// packages installs what the lock file in dir names, unless that has been done since the file was changed.
func packages(dir string) error {
	lock, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return err
	}
	installed, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")) // npm writes it last
	if err == nil && !installed.ModTime().Before(lock.ModTime()) {
		return nil
	}
	return command(dir, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
}

func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}
