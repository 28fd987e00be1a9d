package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// call is a command that asks the API of a running server once.
type call struct {
	use, short, long, example string
	args                      []string // that are needed
	more                      bool     // and others may follow
	flags                     func(cmd *cobra.Command)
	do                        func(cmd *cobra.Command, c *client, args []string) (any, error)
	show                      func(w io.Writer, answer any) // for people
}

// command makes the command. With --json the answer is printed as it is, one object or an object a line.
func (l call) command() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: l.use, Short: l.short, Long: l.long, Example: l.example, Args: positional(l.more, l.args...)}
	server := serverFlag(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	if l.flags != nil {
		l.flags(cmd)
	}
	cmd.RunE = command(func(cmd *cobra.Command, args []string) error {
		c, err := newClient(*server)
		if err != nil {
			return err
		}
		defer c.close()
		answer, err := l.do(cmd, c, args)
		if err != nil {
			if _, ok := err.(*exitError); ok {
				return err
			}
			return explained(cmd.CommandPath()[len("holdpost "):], err)
		}
		out := cmd.OutOrStdout()
		if asJSON {
			b, err := json.Marshal(answer)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(out, printable(string(b)))
			return err
		}
		if l.show == nil {
			return nil
		}
		var table bytes.Buffer
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		l.show(w, answer)
		w.Flush() // into memory
		_, err = io.WriteString(out, fit(table.String(), terminalWidth(out)))
		return err
	})
	return cmd
}

// row writes a line of a table.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			io.WriteString(w, "\t")
		}
		io.WriteString(w, printable(fmt.Sprint(c)))
	}
	io.WriteString(w, "\n")
}

// path joins segments, each of which may have any characters.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		b.WriteString("/" + strings.ReplaceAll(url.PathEscape(s), ".", "%2E")) // a dot alone would be a path of its own
	}
	return b.String()
}

// pageSize is how many are asked for at once.
const pageSize = "1000"

// collect reads all pages of a list. member is the name of the list in a page, name tells what the next page comes after.
func collect[T any](ctx context.Context, c *client, list, member string, name func(T) string) ([]T, error) {
	all := []T{}
	for after := ""; ; {
		var page map[string]json.RawMessage
		err := c.call(ctx, http.MethodGet, list+"?"+url.Values{"after": {after}, "limit": {pageSize}}.Encode(), nil, &page)
		if err != nil {
			return nil, err
		}
		var some []T
		var complete bool
		if err := errors.Join(json.Unmarshal(page[member], &some), json.Unmarshal(page["complete"], &complete)); err != nil {
			return nil, &strangerError{c.base, "its list is not one"}
		}
		if all = append(all, some...); complete || len(some) == 0 {
			return all, nil
		}
		after = name(some[len(some)-1])
	}
}
