package app

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// With --json the last thing that a command says when it fails is an object on a line of standard error, and all that it has written to
// standard output are objects, one a line. It is so whether its flags, its configuration or its server are what is wrong.
func TestErrorsAsJSON(t *testing.T) {
	t.Setenv(jwtSecretVariable, "")
	t.Chdir(t.TempDir())
	seen := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			walk(c)
		}
		if cmd.Flags().Lookup("json") == nil {
			return
		}
		seen++
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			path := strings.Fields(cmd.CommandPath())[1:]
			failsAsJSON(t, append(path, "--no-such-flag", "--json"))
			failsAsJSON(t, append(append(path, "--json"), failing(cmd)...))
		})
	}
	walk(newRoot())
	if seen < 30 {
		t.Errorf("%d commands take --json", seen)
	}
}

// failing returns arguments that a command takes, and can do nothing with.
func failing(cmd *cobra.Command) (args []string) {
	var given []string
	for cmd.ValidateArgs(given) != nil {
		given = append(given, "x")
	}
	for flag, value := range map[string]string{"server": "127.0.0.1:1", "url": "http://127.0.0.1:1", "config": "none.yaml"} {
		if cmd.Flags().Lookup(flag) != nil {
			args = append(args, "--"+flag, value)
		}
	}
	if len(args) == 0 && len(given) == 0 {
		return []string{"x"}
	}
	return append(args, given...)
}

func failsAsJSON(t *testing.T, args []string) {
	t.Helper()
	code, stdout, stderr := runWith(t.Context(), args...)
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	var said struct {
		Error struct {
			Message string
			Exit    int
		}
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &said); err != nil || said.Error.Message == "" || code == 0 || said.Error.Exit != code {
		t.Errorf("%q ended with %d, %v, and said\n%s", args, code, err, stderr)
	}
	for line := range strings.Lines(stdout) {
		if !strings.HasPrefix(line, "{") || !json.Valid([]byte(line)) {
			t.Errorf("%q wrote %s", args, line)
		}
	}
}

// What a server answered has its code beside its text, and the hint stays.
func TestErrorOfAServerAsJSON(t *testing.T) {
	p := newPlace(t, nil)
	t.Setenv(apiKeyVariable, "another")
	code, _, stderr := runWith(t.Context(), "topic", "ls", "--json", "--server", p.server.internal.Addr().String())
	var said struct {
		Error struct {
			Message, Code, Hint string
			Exit                int
		}
	}
	if err := json.Unmarshal([]byte(stderr), &said); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if e := said.Error; code != exitRefused || e.Exit != code || e.Code != "unauthorized" || !strings.Contains(e.Hint, apiKeyVariable) {
		t.Errorf("%d %+v", code, e)
	}
}
