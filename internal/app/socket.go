package app

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

type socketInfo struct {
	ID          string   `json:"id"`
	Identity    string   `json:"identity"`
	Address     string   `json:"address"`
	UserAgent   string   `json:"userAgent"`
	Transport   string   `json:"transport"`
	ConnectedAt string   `json:"connectedAt"`
	Recovered   bool     `json:"recovered"`
	Rooms       []string `json:"rooms"`
	Queued      int      `json:"queued"`
}

func showSocket(w io.Writer, answer any) {
	s := answer.(*socketInfo)
	row(w, "socket", s.ID)
	row(w, "identity", s.Identity)
	row(w, "address", s.Address)
	row(w, "client", s.UserAgent)
	row(w, "transport", s.Transport)
	row(w, "connected", s.ConnectedAt)
	row(w, "recovered", s.Recovered)
	row(w, "rooms", strings.Join(s.Rooms, " "))
	row(w, "queued bytes", s.Queued)
}

func newSocket() *cobra.Command {
	one := func(use, short, method string, do ...string) *cobra.Command {
		return call{
			use: use + " SOCKET", short: short, args: []string{"SOCKET"}, show: showSocket,
			do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
				s := new(socketInfo)
				return s, c.call(cmd.Context(), method, path(append([]string{"sockets", args[0]}, do...)...), nil, s)
			},
		}.command()
	}
	return group("socket", "Look at the clients that are connected",
		call{
			use: "ls", short: "List sockets",
			do: func(cmd *cobra.Command, c *client, _ []string) (any, error) {
				return collect(cmd.Context(), c, path("sockets"), "sockets", func(s *socketInfo) string { return s.ID })
			},
			show: func(w io.Writer, answer any) {
				row(w, "SOCKET", "IDENTITY", "ADDRESS", "TRANSPORT", "CONNECTED", "ROOMS")
				for _, s := range answer.([]*socketInfo) {
					row(w, s.ID, s.Identity, s.Address, s.Transport, s.ConnectedAt, strings.Join(s.Rooms, " "))
				}
			},
		}.command(),
		one("info", "Show a socket", http.MethodGet),
		one("kick", "Disconnect a socket; its client does not come back by itself", http.MethodPost, "disconnect"))
}

func newRoom() *cobra.Command {
	type room struct {
		Room    string `json:"room"`
		Sockets int    `json:"sockets"`
	}
	return group("room", "Look at rooms", call{
		use: "ls", short: "List rooms that have sockets",
		do: func(cmd *cobra.Command, c *client, _ []string) (any, error) {
			return collect(cmd.Context(), c, path("rooms"), "rooms", func(r room) string { return r.Room })
		},
		show: func(w io.Writer, answer any) {
			row(w, "ROOM", "SOCKETS")
			for _, r := range answer.([]room) {
				row(w, r.Room, r.Sockets)
			}
		},
	}.command())
}

func newIdentity() *cobra.Command {
	return group("identity", "Turn somebody out", call{
		use: "revoke IDENTITY", short: "Turn an identity out: its tokens of up to now hold no more, its sockets are disconnected", args: []string{"IDENTITY"},
		do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
			return map[string]string{"revoked": args[0]}, c.call(cmd.Context(), http.MethodPost, path("identities", args[0], "revoke"), nil, nil)
		},
	}.command())
}

func newEmit() *cobra.Command {
	var rooms, except []string
	var volatile bool
	return call{
		use: "emit EVENT [ARG]...", short: "Send an event live, to those who are there", args: []string{"EVENT"}, more: true,
		long: `Send an event live, to those who are there: to the rooms that are named, or to everybody. Who
isn't there misses it; see: holdpost publish

Each ARG is one argument of the event, as JSON; "-" reads one from standard input. What
begins with another "-" goes behind "--".`,
		example: `  holdpost emit --room lobby chat '{"text": "hi"}'`,
		flags: func(cmd *cobra.Command) {
			f := cmd.Flags()
			f.StringArrayVar(&rooms, "room", nil, "`room` or socket to send to; may be given several times")
			f.StringArrayVar(&except, "except", nil, "`room` or socket to leave out; may be given several times")
			f.BoolVar(&volatile, "volatile", false, "leave out who can't take it right now")
		},
		do: func(cmd *cobra.Command, c *client, args []string) (any, error) {
			values, err := arguments(args[1:], cmd.InOrStdin())
			if err != nil {
				return nil, err
			}
			in := struct {
				Event    string            `json:"event"`
				Args     []json.RawMessage `json:"args"`
				Rooms    []string          `json:"rooms,omitempty"`
				Except   []string          `json:"except,omitempty"`
				Volatile bool              `json:"volatile,omitempty"`
			}{args[0], values, rooms, except, volatile}
			return map[string]string{"emitted": args[0]}, c.call(cmd.Context(), http.MethodPost, path("emit"), in, nil)
		},
	}.command()
}
