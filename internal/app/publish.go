package app

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// maxInput bounds what is read from standard input: more than any event may have.
const maxInput = 2 << 20

func newPublish() *cobra.Command {
	var m message
	var expectLast string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "publish TOPIC EVENT [ARG]...",
		Short: "Store an event in a topic",
		Long: `Store an event in a topic. Whoever is subscribed to it gets the event: now, or when he is back.

Each ARG is one argument of the event, as JSON; "-" reads one from standard input. What
begins with another "-" goes behind "--". The command returns once the event is stored.`,
		Example: `  holdpost publish orders created '{"text": "2 espresso"}'
  holdpost publish orders created --id order-7 '{"text": "2 espresso"}'   # again: stored once
  holdpost publish numbers seen -- -1 '"text"' null
  holdpost publish orders imported - < order.json`,
		Args: positional(true, "TOPIC", "EVENT"),
	}
	f := cmd.Flags()
	server := serverFlag(f)
	f.StringVar(&m.ID, "id", "", "`id` of the event: a second one with the same id, within two minutes, stores nothing")
	f.StringVar(&m.Key, "key", "", "what the event is about: queues that are ordered keep the order of those with the same `key`")
	f.StringVar(&m.TTL, "ttl", "", "how long the event is worth something, as in 1h")
	f.StringVar(&m.Delay, "delay", "", "publish it after so long, as in 10m")
	f.StringVar(&expectLast, "expect-last", "", "store it only if the topic's last event has this `offset`; empty is none yet")
	f.BoolVar(&asJSON, "json", false, "print the result as one line of JSON")
	cmd.RunE = command(func(cmd *cobra.Command, args []string) error {
		c, err := newClient(*server)
		if err != nil {
			return err
		}
		defer c.close()
		if cmd.Flags().Changed("id") && m.ID == "" {
			return usage("leave the flag out to get an id made", "--id is empty")
		}
		values, err := arguments(args[2:], cmd.InOrStdin())
		if err != nil {
			return err
		}
		m.Topic, m.Event, m.Args = args[0], args[1], values
		if cmd.Flags().Changed("expect-last") {
			m.ExpectLast = &expectLast
		}
		if m.ID == "" {
			m.ID = rand.Text() // ours rather than the server's, so that it is known when no answer comes
		}
		return publish(cmd.Context(), c, m, asJSON, cmd.OutOrStdout())
	})
	return cmd
}

type message struct {
	Topic      string            `json:"topic"`
	Event      string            `json:"event"`
	Args       []json.RawMessage `json:"args"`
	ID         string            `json:"id"`
	Key        string            `json:"key,omitempty"`
	TTL        string            `json:"ttl,omitempty"`
	Delay      string            `json:"delay,omitempty"`
	ExpectLast *string           `json:"expectLast,omitempty"`
}

// arguments checks what stands on the command line: a mistake there is better told in its terms than in the server's.
func arguments(args []string, stdin io.Reader) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(args))
	read := false
	for i, arg := range args {
		text := []byte(arg)
		if arg == "-" {
			if read {
				return nil, usage("", "argument %d: standard input is read only once", i+1)
			}
			read = true
			var err error
			if text, err = io.ReadAll(io.LimitReader(stdin, maxInput+1)); err != nil {
				return nil, fmt.Errorf("read standard input: %w", err)
			}
			if len(text) > maxInput {
				return nil, usage("", "standard input has more than %d bytes", maxInput)
			}
		}
		if !utf8.Valid(text) || !json.Valid(text) {
			return nil, usage(`text is written with quotes: '"hello"'`, "argument %d is not JSON: %.60s", i+1, text)
		}
		values[i] = text
	}
	return values, nil
}

func publish(ctx context.Context, c *client, m message, asJSON bool, w io.Writer) error {
	p, err := c.publish(ctx, m)
	if err != nil {
		return explainPublish(err, m)
	}
	if asJSON {
		line, err := json.Marshal(p)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, printable(string(line)))
		return err
	}
	stored := "stored"
	if p.Duplicate {
		stored = "already stored"
	}
	_, err = fmt.Fprintf(w, "%s in %s at %s, id %s\n", stored, printable(p.Topic), p.Offset, printable(p.ID))
	return err
}

type published struct {
	Topic     string `json:"topic"`
	Offset    string `json:"offset"`
	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate"`
}

func (c *client) publish(ctx context.Context, m message) (*published, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answerPatience, fmt.Errorf("no answer from %s within %v", c.base, answerPatience))
	defer cancel()
	answer, err := c.do(ctx, http.MethodPost, "/v1/publish", body, "application/json")
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	p := new(published)
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(p); err != nil {
		return nil, c.explain(ctx, err)
	}
	return p, nil
}

// explainPublish says whether the event may be stored all the same.
func explainPublish(err error, m message) error {
	e := explained(fmt.Sprintf("publish %q", m.Topic), err)
	p, answered := errors.AsType[*problem](err)
	if e.code == exitFailed && (!answered || p.Code == "unknown_outcome") {
		e.err = fmt.Errorf("%w; the event may be stored", e.err)
		e.hint = fmt.Sprintf("publish it again with --id %s: within two minutes it is stored once", m.ID)
	}
	return e
}
