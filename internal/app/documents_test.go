package app

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	codeBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")
	codeSpan  = regexp.MustCompile("`([^`\n]+)`")
	// A command of ours up to what ends it in a shell.
	ours = regexp.MustCompile(`(?:^|[ ;(/])holdpost ((?:'[^']*'|"[^"]*"|\$\([^)]*\)|[^'"$|<>;&#)\n]|\$)+)`)
	word = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|\$\([^)]*\)|[^'"\s])+`)
)

// Every command of ours that the documents and the help show is one that there is, with flags that it has and as many arguments as
// it takes.
func TestCommandsOfTheDocuments(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string][]string)
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range codeBlock.FindAllSubmatch(b, -1) {
			texts[page] = append(texts[page], string(m[1]))
		}
		for _, m := range codeSpan.FindAllSubmatch(b, -1) {
			if span := string(m[1]); strings.HasPrefix(span, "holdpost ") && !strings.ContainsAny(span, "…") {
				texts[page] = append(texts[page], span)
			}
		}
	}
	var help func(*cobra.Command)
	help = func(cmd *cobra.Command) {
		texts[cmd.CommandPath()] = append(texts[cmd.CommandPath()], cmd.Example)
		for _, c := range cmd.Commands() {
			help(c)
		}
	}
	help(newRoot())
	seen := 0
	for where, all := range texts {
		for _, text := range all {
			for line := range strings.Lines(text) {
				line = strings.TrimPrefix(strings.TrimSpace(line), "docker exec holdpost ")
				if strings.HasPrefix(line, "docker ") { // where holdpost is an image
					continue
				}
				for _, m := range ours.FindAllStringSubmatch(line, -1) {
					seen++
					if err := known(word.FindAllString(m[1], -1)); err != nil {
						t.Errorf("%s: holdpost %s: %v", where, m[1], err)
					}
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d commands were found", seen)
	}
}

// known returns an error unless there is such a command. One that stands for others, or is named without its arguments, will do.
func known(args []string) error {
	root := newRoot()
	root.InitDefaultCompletionCmd(args...)
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if len(cmd.Flags().Args()) == 0 {
		return nil
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
