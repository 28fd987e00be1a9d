package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdpost/holdpost"
	socketio "github.com/holdpost/holdpost/client"
)

// tokenVariable has the token of a client.
const tokenVariable = envPrefix + "TOKEN"

func newListen() *cobra.Command {
	var url, identity string
	var rooms []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "listen [EVENT]...",
		Short: "Print the events that a client gets",
		Long: `Connect as a client, join rooms, and print the events that come: all, or those with these names.
The client's token is that of HOLDPOST_TOKEN; a server in dev mode takes --identity.`,
		Example: `  holdpost listen --identity ann --room lobby
  HOLDPOST_TOKEN=$(holdpost token new ann --join lobby) holdpost listen --room lobby chat`,
		Args: cobra.ArbitraryArgs,
	}
	f := cmd.Flags()
	f.StringVar(&url, "url", "http://127.0.0.1:7300", "`URL` of the server, its public listener")
	f.StringVar(&identity, "identity", "", "who to be, for a server in dev mode")
	f.StringArrayVar(&rooms, "room", nil, "`room` to join; may be given several times")
	f.BoolVar(&asJSON, "json", false, "print an object a line")
	cmd.RunE = command(func(cmd *cobra.Command, names []string) error {
		auth := map[string]string{}
		if token := os.Getenv(tokenVariable); token != "" {
			auth["token"] = token
		}
		if identity != "" {
			auth["client"] = identity
		}
		c := socketio.New(url, &socketio.Config{Auth: auth})
		defer c.Close()
		s := c.Of("/")
		s.OnAny(func(_ context.Context, event string, args holdpost.Args) ([]any, error) {
			if len(names) == 0 || slices.Contains(names, event) {
				printEvent(cmd.OutOrStdout(), event, args, asJSON)
			}
			return nil, nil
		})
		s.OnConnect(func(ctx context.Context) {
			for _, room := range rooms {
				if err := ask(ctx, s, "join", room); err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "holdpost: join %s: %s\n", printable(room), printable(err.Error()))
				}
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "holdpost: connected as %s\n", printable(s.ID()))
		})
		// Later the client comes back by itself, but a server that was never there is a mistake.
		ctx, cancel := context.WithTimeout(cmd.Context(), dialPatience)
		err := s.Connect(ctx)
		cancel()
		switch {
		case cmd.Context().Err() != nil:
			return nil
		case err != nil:
			return explainConnect(url, err)
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-s.Context().Done():
			return explainConnect(url, s.Err())
		}
	})
	return cmd
}

func printEvent(w io.Writer, event string, args holdpost.Args, asJSON bool) {
	values := make([]json.RawMessage, args.Len())
	for i := range values {
		values[i] = args.Raw(i)
	}
	if asJSON {
		if line, err := json.Marshal(map[string]any{"event": event, "args": values}); err == nil { // what was decoded is JSON
			fmt.Fprintln(w, printable(string(line)))
		}
		return
	}
	text := time.Now().UTC().Format("2006-01-02T15:04:05.000Z") + " " + event
	for _, v := range values {
		text += " " + string(v)
	}
	fmt.Fprintln(w, printable(text))
}

// ask emits an event and waits for its answer, which may be an error.
func ask(ctx context.Context, s *socketio.Socket, event string, args ...any) error {
	answer, err := s.EmitWithAck(ctx, event, args...)
	if err != nil {
		return err
	}
	var said struct{ Error *holdpost.Error }
	if raw := answer.Raw(0); len(raw) > 0 && raw[0] == '{' && json.Unmarshal(raw, &said) == nil && said.Error != nil {
		return said.Error
	}
	return nil
}

// explainConnect gives an error of the client its exit code, and says what to do about it.
func explainConnect(url string, err error) error {
	e := &exitError{code: exitFailed, err: fmt.Errorf("connect to %s: %w", url, err)}
	if _, ok := errors.AsType[*holdpost.ConnectError](err); ok {
		e.code = exitRefused
		e.hint = "set " + tokenVariable + " to a token that holds, or give --identity to a server in dev mode"
	}
	if _, ok := errors.AsType[*socketio.DialError](err); ok || errors.Is(err, context.DeadlineExceeded) {
		e.code = exitUnavailable
		e.hint = "say where the server is: --url URL, the address that it shows as Socket.IO"
	}
	return e
}
