package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	pageLimit = 1000 // the API's own
	// The wait before a lost server is tried again, which doubles from the first to the last.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
)

func newTail() *cobra.Command {
	var from string
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "tail TOPIC",
		Short: "Print the events of a topic",
		Long: `Print the events of a topic, oldest first: time, offset, name and arguments.

With --follow it goes on with what is published next, until Ctrl-C. A server that goes away
meanwhile is waited for, and no event is left out or printed twice.`,
		Example: `  holdpost tail orders
  holdpost tail -f orders --from new
  holdpost tail orders --from 2026-01-31T08:00:00Z --json`,
		Args: positional(false, "TOPIC"),
	}
	f := cmd.Flags()
	server := serverFlag(f)
	f.StringVar(&from, "from", "first", "`start`: first, last, new, the offset of the event before, or a time as in RFC 3339")
	f.BoolVarP(&follow, "follow", "f", false, "go on with what is published next")
	f.BoolVar(&asJSON, "json", false, "print one line of JSON for each event")
	cmd.RunE = command(func(cmd *cobra.Command, args []string) error {
		c, err := newClient(*server)
		if err != nil {
			return err
		}
		defer c.close()
		t := &tail{client: c, topic: args[0], from: from, json: asJSON, out: bufio.NewWriter(cmd.OutOrStdout()), notes: cmd.ErrOrStderr()}
		if follow {
			err = t.follow(cmd.Context())
		} else {
			err = t.history(cmd.Context())
		}
		if err != nil {
			return explained(fmt.Sprintf("tail %q", t.topic), err)
		}
		return nil
	})
	return cmd
}

// tail prints a topic.
type tail struct {
	client *client
	topic  string
	from   string // where the next event is, which moves on with what is printed
	json   bool
	out    *bufio.Writer // remembers its error until it is flushed
	notes  io.Writer
}

type event struct {
	Offset      string            `json:"offset"`
	Event       string            `json:"event"`
	Args        []json.RawMessage `json:"args"`
	Attachments [][]byte          `json:"attachments"`
	PublishedAt time.Time         `json:"publishedAt"`
}

type gap struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Cause string `json:"cause"`
}

// history prints everything up to the end of the topic.
func (t *tail) history(ctx context.Context) error {
	for {
		complete, err := t.page(ctx)
		if complete || err != nil {
			return err
		}
	}
}

// page prints the next page and reports whether it was the last.
func (t *tail) page(ctx context.Context) (complete bool, err error) {
	body, err := t.get(ctx, "application/json", url.Values{"limit": {strconv.Itoa(pageLimit)}})
	if err != nil {
		return false, err
	}
	defer body.Close()
	var page struct {
		Events   []json.RawMessage `json:"events"`
		Next     string            `json:"next"`
		Complete bool              `json:"complete"`
		Gap      json.RawMessage   `json:"gap"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(&page); err != nil {
		return false, t.client.explain(ctx, err)
	}
	if page.Gap != nil {
		if err := t.print(fmt.Appendf(nil, `{"gap":%s}`, page.Gap)); err != nil {
			return false, err
		}
	}
	for _, e := range page.Events {
		if err := t.print(e); err != nil {
			return false, err
		}
	}
	t.from = page.Next
	return page.Complete, t.out.Flush()
}

// follow prints until ctx ends, which is no error.
func (t *tail) follow(ctx context.Context) error {
	reached := false // a server was there once: it is worth waiting for
	wait := firstRetry
	for {
		from := t.from
		err := t.connection(ctx, &reached)
		switch {
		case ctx.Err() != nil:
			return nil
		case !reached || !passes(err):
			return err
		}
		if t.from != from {
			wait = firstRetry
		}
		fmt.Fprintf(t.notes, "holdpost: %s; trying again\n", printable(err.Error()))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, lastRetry)
	}
}

// passes reports whether the error is one of a server that stops and starts.
func passes(err error) bool {
	_, absent := errors.AsType[*absentError](err)
	_, lost := errors.AsType[*lostError](err)
	p, answered := errors.AsType[*problem](err)
	return absent || lost || answered && p.Status == http.StatusServiceUnavailable
}

// connection prints what there is, then what comes for as long as the connection stands. It always returns an error, and
// sets reached once the server has answered.
func (t *tail) connection(ctx context.Context, reached *bool) error {
	// Reading up to the end first turns "new" into an offset, so that nothing is missed after a lost connection.
	if err := t.history(ctx); err != nil {
		return err
	}
	*reached = true
	body, err := t.get(ctx, "application/x-ndjson", url.Values{"follow": {"true"}})
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxAnswer)
	lines.Split(wholeLines)
	for lines.Scan() {
		if err := t.print(lines.Bytes()); err != nil {
			return err
		}
		if err := t.out.Flush(); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return t.client.explain(ctx, err)
	}
	return &lostError{t.client.base, io.EOF}
}

// wholeLines is bufio.ScanLines without the last line of a connection that ended within it.
func wholeLines(data []byte, _ bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}

func (t *tail) get(ctx context.Context, want string, query url.Values) (io.ReadCloser, error) {
	query.Set("from", t.from)
	segment := strings.ReplaceAll(url.PathEscape(t.topic), ".", "%2E") // a path with dots in it would be cleaned
	return t.client.do(ctx, http.MethodGet, "/v1/topics/"+segment+"/events?"+query.Encode(), nil, want)
}

// print prints an event or a gap, as the API wrote it, and moves on behind it.
func (t *tail) print(line []byte) error {
	var item struct {
		event
		Gap *gap `json:"gap"`
	}
	if err := json.Unmarshal(line, &item); err != nil || item.Gap == nil && item.Offset == "" {
		return &strangerError{t.client.base, "it sent what is no event"}
	}
	if item.Gap != nil {
		t.from = item.Gap.To
	} else {
		t.from = item.Offset
	}
	switch {
	case t.json:
		fmt.Fprintln(t.out, printable(string(line)))
	case item.Gap != nil:
		t.out.Flush() // keeps the order on a terminal
		fmt.Fprintf(t.notes, "holdpost: events between %s and %s are gone: %s\n", item.Gap.From, item.Gap.To, printable(item.Gap.Cause))
	default:
		t.out.WriteString(item.event.text())
	}
	return nil
}

// text is the line of an event for people: what is behind the name is what publish takes.
func (e *event) text() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s", e.PublishedAt.UTC().Format("2006-01-02T15:04:05.000Z"), e.Offset, e.Event)
	for _, arg := range e.Args {
		b.WriteByte(' ')
		if json.Compact(&b, arg) != nil {
			b.Write(arg) // decoding has found it to be JSON
		}
	}
	if n := len(e.Attachments); n > 0 {
		fmt.Fprintf(&b, " +%d binary", n)
	}
	return printable(b.String()) + "\n"
}
