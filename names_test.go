package holdpost_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdpost/holdpost"
)

// Names that mean something somewhere else, and here are names like any other.
var awkward = []string{
	"__proto__", "constructor", "prototype", "toString", "valueOf", "hasOwnProperty", "__defineGetter__", "null", "undefined", "NaN", "true",
	"-1", "0", "1e9", ".", "..", "/", "//", "*", ">", "#", "+", "$SYS", "_INBOX", "%s%n", "%00", "\u2028", "\u202e", "\ufb00", "e\u0301", "\u00e9",
	"\U0001f600", `"`, `\`, "<img onerror>", "</script>", "{{", strings.Repeat("x", 255),
}

func TestAwkwardEvents(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		for _, name := range awkward {
			w.main.On(name, func(_ context.Context, s *holdpost.Socket, args holdpost.Args) ([]any, error) {
				return []any{name}, s.Emit(background, name, args)
			})
		}
		c := w.connect(transport)
		for _, name := range awkward {
			quoted := quote(name)
			c.Send(`427[` + quoted + `,{"__proto__":` + quoted + `}]`)
			c.Want(name, `42[`+quoted+`,{"__proto__":`+quoted+`}]`, `437[`+quoted+`]`)
		}
	})
}

func TestAwkwardRoomsAndKeys(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		c, other := w.connect(transport), w.connect(transport)
		s := c.socket()
		if err := s.Join(awkward...); err != nil {
			t.Fatal(err)
		}
		for _, name := range awkward {
			w.main.To(name).Emit(background, "e", name)
			c.Want(name, `42["e",`+quote(name)+`]`)
			holdpost.NewRecoverableKey[string](name).Set(s, name)
		}
		for info := range w.main.To(c.id).FetchSockets(background) {
			if !slices.Equal(info.Rooms, awkward) || len(info.Values) != len(awkward) || string(info.Values["__proto__"]) != `"__proto__"` {
				t.Errorf("got %d rooms, %d values", len(info.Rooms), len(info.Values))
			}
		}
		other.WantIdle("nobody else is in them", time.Second)
	})
}

func TestAwkwardNamespaces(t *testing.T) {
	run(t, holdpost.Config{MaxNamespaces: 100}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		for _, name := range awkward {
			if name == "/" || len(name) > 250 || strings.HasPrefix(name, "/") {
				continue
			}
			c.Send("40/" + name + ",")
			c.Want("before it is there", "44/"+name+`,{"message":"Invalid namespace"}`)
			ns := w.srv.Of(name)
			c.join("/"+name, "")
			ns.Emit(background, "e")
			c.Want(name, "42/"+name+`,["e"]`)
		}
	})
}

// quote writes a string as JSON.stringify does.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s)
	return strings.NewReplacer(`\u2028`, "\u2028").Replace(strings.TrimSpace(b.String()))
}

// Large payloads pass within the default limits, in both directions.
func TestLargePayloads(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		w.main.On("echo", reply)
		c := w.connect(transport)
		text := `{"list":[` + strings.Repeat(`{"name":"\u20ac value","n":12345.678},`, 20_000) + `null]}`
		for range 3 {
			c.Send(`421["echo",` + text + `]`)
			c.Want("JSON", `431[`+text+`]`)
		}
		data := make([]byte, 700_000)
		for range 3 {
			c.Send(`451-2["echo",{"_placeholder":true,"num":0}]`)
			c.SendBinary(data)
			c.Want("binary", `461-2[{"_placeholder":true,"num":0}]`, "binary "+strings.Repeat("00", len(data)))
		}
	})
}
