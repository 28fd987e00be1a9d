package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/auth"
)

type socketList struct {
	Sockets  []socketInfo `json:"sockets"`
	Count    int          `json:"count"`    // of all
	Complete bool         `json:"complete"` // none comes after them
}

// socketInfo is what is told of a socket: nothing of its token.
type socketInfo struct {
	ID          string   `json:"id"`
	Identity    string   `json:"identity"`
	Address     string   `json:"address"`
	UserAgent   string   `json:"userAgent"`
	Transport   string   `json:"transport"`
	ConnectedAt string   `json:"connectedAt"`
	Recovered   bool     `json:"recovered"`
	Rooms       []string `json:"rooms"`
	Queued      int      `json:"queued"` // bytes that it has not taken yet
}

func (a *api) newSocketInfo(s *holdpost.Socket) socketInfo {
	h := s.Handshake()
	rooms := slices.Sorted(s.Rooms())
	if rooms == nil {
		rooms = []string{}
	}
	return socketInfo{
		ID: s.ID(), Identity: a.Identity(s), Address: h.Address, UserAgent: h.Header.Get("User-Agent"), Transport: s.Transport(),
		ConnectedAt: h.Time.UTC().Format(time.RFC3339Nano), Recovered: s.Recovered(), Rooms: rooms, Queued: s.Queued(),
	}
}

func (a *api) sockets(w http.ResponseWriter, r *http.Request) {
	q := query{limit: defaultLimit}
	if !q.read(w, r, "after", "limit") {
		return
	}
	all := slices.Collect(a.Namespace.Sockets())
	out := socketList{Sockets: []socketInfo{}, Count: len(all), Complete: true}
	all = slices.DeleteFunc(all, func(s *holdpost.Socket) bool { return s.ID() <= q.after })
	slices.SortFunc(all, func(x, y *holdpost.Socket) int {
		if x.ID() < y.ID() {
			return -1
		}
		return 1
	})
	if limit := min(q.limit, maxLimit); len(all) > limit {
		all, out.Complete = all[:limit], false
	}
	for _, s := range all {
		out.Sockets = append(out.Sockets, a.newSocketInfo(s))
	}
	reply(w, out)
}

// connected returns a handler that does something to a socket, if need be, and answers with its state.
func (a *api) connected(do func(*holdpost.Socket, membership) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in membership
		if r.Method == http.MethodPost && !decode(w, r, &in, maxSmall) {
			return
		}
		s, ok := a.Namespace.Socket(r.PathValue("socket"))
		if !ok {
			fail(w, problem{Status: http.StatusNotFound, Code: "not_found", Detail: "there is no such socket"})
			return
		}
		if err := do(s, in); err != nil {
			a.refuse(w, r, err)
			return
		}
		reply(w, a.newSocketInfo(s))
	}
}

// membership names rooms.
type membership struct {
	Rooms []string `json:"rooms"`
}

func show(*holdpost.Socket, membership) error { return nil }

func disconnect(s *holdpost.Socket, _ membership) error {
	s.Disconnect(true)
	return nil
}

func join(s *holdpost.Socket, in membership) error { return s.Join(in.Rooms...) }

func leave(s *holdpost.Socket, in membership) error {
	s.Leave(in.Rooms...)
	return nil
}

type roomList struct {
	Rooms    []roomInfo `json:"rooms"`
	Complete bool       `json:"complete"` // none comes after them
}

type roomInfo struct {
	Room    string `json:"room"`
	Sockets int    `json:"sockets"`
}

func (a *api) rooms(w http.ResponseWriter, r *http.Request) {
	q := query{limit: defaultLimit}
	if !q.read(w, r, "after", "limit") {
		return
	}
	counts := make(map[string]int)
	for s := range a.Namespace.Sockets() {
		for room := range s.Rooms() {
			if room > q.after {
				counts[room]++
			}
		}
	}
	names := slices.Sorted(maps.Keys(counts))
	out := roomList{Rooms: []roomInfo{}, Complete: true}
	if limit := min(q.limit, maxLimit); len(names) > limit {
		names, out.Complete = names[:limit], false
	}
	for _, name := range names {
		out.Rooms = append(out.Rooms, roomInfo{name, counts[name]})
	}
	reply(w, out)
}

func (a *api) presence(w http.ResponseWriter, r *http.Request) {
	q := query{limit: defaultLimit}
	room := r.PathValue("room")
	if !q.read(w, r, "after", "limit") || !a.allow(w, r, auth.Join, room) {
		return
	}
	reply(w, a.Post.Presence(a.Namespace, room, q.after, min(q.limit, maxLimit)))
}

type emission struct {
	Event       string          `json:"event"`
	Args        json.RawMessage `json:"args,omitempty"`
	Attachments [][]byte        `json:"attachments,omitempty"` // what the placeholders in args refer to
	Rooms       []string        `json:"rooms,omitempty"`       // or ids of sockets; left out: everybody
	Except      []string        `json:"except,omitempty"`      // rooms whose sockets are left out
	Volatile    bool            `json:"volatile,omitempty"`
}

// emit sends an event live. To everybody it needs the permission to send to every room.
func (a *api) emit(w http.ResponseWriter, r *http.Request) {
	var in emission
	if !decode(w, r, &in, maxBody) {
		return
	}
	to := in.Rooms
	if to == nil {
		to = []string{""}
	}
	for _, room := range to {
		if !a.allow(w, r, auth.Send, room) {
			return
		}
	}
	if len(in.Rooms) > maxLimit || len(in.Except) > maxLimit {
		badRequest(w, "rooms and except are at most %d names", maxLimit)
		return
	}
	if err := deliverable(in.Event, in.Args, in.Attachments); err != nil {
		a.refuse(w, r, err)
		return
	}
	b := a.Namespace.Broadcast().Except(in.Except...)
	if in.Rooms != nil {
		b = b.To(in.Rooms...)
	}
	if in.Volatile {
		b = b.Volatile()
	}
	args, err := holdpost.NewArgs(orEmpty(in.Args), in.Attachments)
	if err == nil {
		err = b.Emit(r.Context(), in.Event, args)
	}
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func orEmpty(args json.RawMessage) []byte {
	if len(args) == 0 {
		return []byte("[]")
	}
	return args
}

// revokePatience is how long a revocation may take to be stored, whether its caller still waits or not.
const revokePatience = 10 * time.Second

// revoke turns an identity out, also when that can't be stored, or the caller does not wait for it.
func (a *api) revoke(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), revokePatience)
	defer cancel()
	err := a.Authority.Revoke(ctx, r.PathValue("identity"))
	if _, refused := errors.AsType[*auth.Error](err); !refused && a.Revoked != nil {
		a.Revoked()
	}
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
