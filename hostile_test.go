package holdpost_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/peertest"
)

// binary stands for a binary message in a list of packets, with its content.
const binary = "binary:"

func (c *client) throw(packets ...string) {
	for _, packet := range packets {
		if data, ok := strings.CutPrefix(packet, binary); ok {
			c.ThrowBinary([]byte(data))
		} else {
			c.Throw(packet)
		}
	}
}

// What a client can send, to a server that knows the namespaces "/" and "/known" and the event "echo". The socket ends
// with the reason, or goes on with the answer.
var hostile = []struct {
	name    string
	packets []string
	reason  holdpost.Reason // "" if it goes on
	answer  string          // "" for none
}{
	// Types.
	{"an unknown type", []string{"47"}, holdpost.ReasonParseError, ""},
	{"a type that is no digit", []string{"4-"}, holdpost.ReasonParseError, ""},
	{"no type", []string{"4"}, holdpost.ReasonParseError, ""},
	{"an event without payload", []string{"42"}, holdpost.ReasonParseError, ""},
	{"an event with only an ack id", []string{"4212"}, holdpost.ReasonParseError, ""},
	{"text", []string{"4abc"}, holdpost.ReasonParseError, ""},
	{"CONNECT with an array", []string{"40/known,[]"}, holdpost.ReasonParseError, ""},
	{"CONNECT with null", []string{"40/known,null"}, holdpost.ReasonParseError, ""},
	{"DISCONNECT with a payload", []string{`41{"a":1}`}, holdpost.ReasonParseError, ""},
	{"CONNECT_ERROR from the client", []string{`44{"message":"x"}`}, holdpost.ReasonForcedServer, ""},
	{"an ack without id", []string{"43[]"}, holdpost.ReasonParseError, ""},
	{"an ack without array", []string{"431"}, holdpost.ReasonParseError, ""},

	// State.
	{"a second CONNECT", []string{"40"}, holdpost.ReasonForcedServer, ""},
	{"an event to a namespace not joined", []string{`42/known,["echo"]`}, holdpost.ReasonForcedServer, ""},
	{"an event to no namespace", []string{`42/nowhere,["echo"]`}, holdpost.ReasonForcedServer, ""},
	{"an ack to a namespace not joined", []string{`43/known,1[]`}, holdpost.ReasonForcedServer, ""},
	{"DISCONNECT of a namespace not joined", []string{`41/known,`}, holdpost.ReasonForcedServer, ""},

	// Event names.
	{"no name", []string{"42[]"}, holdpost.ReasonParseError, ""},
	{"null for a name", []string{"42[null]"}, holdpost.ReasonParseError, ""},
	{"an object for a name (CVE-2023-32695)", []string{`42[{"toString":"echo"}]`}, holdpost.ReasonParseError, ""},
	{"an array for a name", []string{`42[["echo"]]`}, holdpost.ReasonParseError, ""},
	{"a boolean for a name", []string{`42[true]`}, holdpost.ReasonParseError, ""},
	{"connect", []string{`42["connect"]`}, holdpost.ReasonParseError, ""},
	{"connect_error", []string{`42["connect_error"]`}, holdpost.ReasonParseError, ""},
	{"disconnect", []string{`42["disconnect"]`}, holdpost.ReasonParseError, ""},
	{"disconnecting", []string{`42["disconnecting"]`}, holdpost.ReasonParseError, ""},
	{"newListener", []string{`42["newListener"]`}, holdpost.ReasonParseError, ""},
	{"removeListener", []string{`42["removeListener"]`}, holdpost.ReasonParseError, ""},
	{"a reserved name in disguise", []string{`42["\u0063onnect"]`}, holdpost.ReasonParseError, ""},
	{"a number for a name", []string{`421[1]`}, "", ""},
	{"a name of 255 bytes", []string{`421["` + strings.Repeat("x", 255) + `"]`}, "", ""},
	{"a name of 256 bytes", []string{`421["` + strings.Repeat("x", 256) + `"]`}, holdpost.ReasonParseError, ""},

	// Namespaces.
	{"a namespace of 255 bytes", []string{"40/" + strings.Repeat("x", 254)}, "", "44/" + strings.Repeat("x", 254) + `,{"message":"Invalid namespace"}`},
	{"a namespace of 256 bytes", []string{"40/" + strings.Repeat("x", 255)}, holdpost.ReasonParseError, ""},
	{"a namespace with control characters", []string{"40/a\x00b"}, holdpost.ReasonParseError, ""},
	{"a namespace like a path", []string{"40/../known"}, "", `44/../known,{"message":"Invalid namespace"}`},
	{"a namespace like a pattern", []string{"40/.*"}, "", `44/.*,{"message":"Invalid namespace"}`},
	{"a namespace with an escape", []string{"40/known%00"}, "", `44/known%00,{"message":"Invalid namespace"}`},
	{"only a comma", []string{"40,"}, holdpost.ReasonParseError, ""},

	// Attachments.
	{"zero attachments (CVE-2026-69185)", []string{`450-["echo"]`}, holdpost.ReasonParseError, ""},
	{"eleven attachments (CVE-2026-33151)", []string{`4511-["echo"]`}, holdpost.ReasonParseError, ""},
	{"a negative count", []string{`45-1-["echo"]`}, holdpost.ReasonParseError, ""},
	{"a count with a fraction", []string{`451.5-["echo"]`}, holdpost.ReasonParseError, ""},
	{"a count with an exponent", []string{`451e0-["echo"]`}, holdpost.ReasonParseError, ""},
	{"a count with a sign", []string{`45+1-["echo"]`}, holdpost.ReasonParseError, ""},
	{"a count with a blank", []string{`45 1-["echo"]`}, holdpost.ReasonParseError, ""},
	{"a hexadecimal count", []string{`450x1-["echo"]`}, holdpost.ReasonParseError, ""},
	{"a count of 400 digits", []string{`45` + strings.Repeat("9", 400) + `-["echo"]`}, holdpost.ReasonParseError, ""},
	{"a count without its dash", []string{`451["echo"]`}, holdpost.ReasonParseError, ""},
	{"text where an attachment is due", []string{`451-["echo",{"_placeholder":true,"num":0}]`, `42["echo"]`}, holdpost.ReasonParseError, ""},
	{"an attachment that nobody announced", []string{binary + "abc"}, holdpost.ReasonParseError, ""},
	{"one attachment too many", []string{`451-1["echo",{"_placeholder":true,"num":0}]`, binary + "abc", binary + "abc"}, holdpost.ReasonParseError, ""},
	{"an index out of range", []string{`451-["echo",{"_placeholder":true,"num":1}]`}, holdpost.ReasonParseError, ""},
	{"a negative index (CVE-2022-2421)", []string{`451-["echo",{"_placeholder":true,"num":-1}]`}, holdpost.ReasonParseError, ""},
	{"a string for an index (CVE-2022-2421)", []string{`451-["echo",{"_placeholder":true,"num":"splice"}]`}, holdpost.ReasonParseError, ""},
	{"an object for an index (CVE-2022-2421)", []string{`451-["echo",{"_placeholder":true,"num":{}}]`}, holdpost.ReasonParseError, ""},
	{"a fraction for an index", []string{`451-["echo",{"_placeholder":true,"num":0.5}]`}, holdpost.ReasonParseError, ""},
	{"no index", []string{`451-["echo",{"_placeholder":true}]`}, holdpost.ReasonParseError, ""},
	{"a placeholder that is none", []string{`421["echo",{"_placeholder":true,"num":7}]`}, "", `431[{"_placeholder":true,"num":7}]`},

	// Ack ids.
	{"the largest ack id", []string{`429007199254740991["echo"]`}, "", `439007199254740991[]`},
	{"an ack id of 2^53", []string{`429007199254740992["echo"]`}, holdpost.ReasonParseError, ""},
	{"an ack id of 2^64", []string{`4218446744073709551616["echo"]`}, holdpost.ReasonParseError, ""},
	{"an ack id of 400 digits", []string{`42` + strings.Repeat("1", 400) + `["echo"]`}, holdpost.ReasonParseError, ""},
	{"an ack id with a leading zero", []string{`42007["echo"]`}, holdpost.ReasonParseError, ""},
	{"a negative ack id", []string{`42-1["echo"]`}, holdpost.ReasonParseError, ""},
	{"an ack id with an exponent", []string{`421e5["echo"]`}, holdpost.ReasonParseError, ""},
	{"a blank for an ack id", []string{`42 ["echo"]`}, holdpost.ReasonParseError, ""},
	{"digits of another script", []string{"42\u0661[\"echo\"]"}, holdpost.ReasonParseError, ""},
	{"an ack that nobody asked for", []string{`4312["x"]`}, "", ""},
	{"a binary ack that nobody asked for", []string{`461-12[{"_placeholder":true,"num":0}]`, binary + "abc"}, "", ""},

	// JSON.
	{"broken JSON", []string{`42["echo"`}, holdpost.ReasonParseError, ""},
	{"something behind the JSON", []string{`42["echo"]x`}, holdpost.ReasonParseError, ""},
	{"NaN", []string{`42["echo",NaN]`}, holdpost.ReasonParseError, ""},
	{"a byte order mark", []string{"42\ufeff[\"echo\"]"}, holdpost.ReasonParseError, ""},
	{"duplicate keys", []string{`421["echo",{"a":1,"a":2}]`}, "", `431[{"a":1,"a":2}]`},
	{"a lone surrogate", []string{`421["echo","\ud800"]`}, "", `431["\ud800"]`},
	{"nested as deep as may be", []string{`421["echo",` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `]`}, "", `431[` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `]`},
	{"nested too deeply", []string{`42["echo",` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `]`}, holdpost.ReasonParseError, ""},
	{"nested ten thousand deep", []string{`42["echo",` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `]`}, holdpost.ReasonParseError, ""},
	{"too many values", []string{`42["echo",[` + strings.Repeat("0,", 100_000) + `0]]`}, holdpost.ReasonParseError, ""},
	{"a megabyte of digits (CVE-2020-36049)", []string{`42` + strings.Repeat("1", 900_000)}, holdpost.ReasonParseError, ""},
	{"a large auth object", []string{`40/known,{"a":"` + strings.Repeat("x", 65_536-8) + `"}`}, "", "40/known,"},
	{"an auth object too large", []string{`40/known,{"a":"` + strings.Repeat("x", 65_536-7) + `"}`}, holdpost.ReasonParseError, ""},
}

func TestHostilePackets(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
				var got record
				got.watch(w.main)
				w.main.On("echo", reply)
				w.srv.Of("/known")
				c, other := w.connect(transport), w.connect(transport)
				c.throw(tt.packets...)
				if tt.reason != "" {
					c.wantClosed(tt.name)
					got.want(t, "ended", string(tt.reason))
				} else {
					if tt.answer != "" {
						if answer := c.Next(); !strings.HasPrefix(answer, tt.answer) {
							t.Errorf("answered %s, want %s", peertest.Clip(answer), peertest.Clip(tt.answer))
						}
					}
					c.Send(`4299["echo"]`)
					c.Want("it goes on", `4399[]`)
					got.want(t, "nobody ended")
				}
				other.Send(`421["echo"]`)
				other.Want("nobody else is harmed", `431[]`)
			})
		})
	}
}

// The same against handlers that panic, that never return, and against none: nobody else notices, and the server ends.
func TestHostilePacketsAnyHandler(t *testing.T) {
	for kind, wrap := range map[string]holdpost.Wrapper{
		"panics": func(context.Context, *holdpost.Socket, string, holdpost.Args, holdpost.Handler) ([]any, error) {
			panic("broke")
		},
		"blocks": func(ctx context.Context, _ *holdpost.Socket, _ string, _ holdpost.Args, _ holdpost.Handler) ([]any, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		},
		"none": nil,
	} {
		t.Run(kind, func(t *testing.T) {
			bubble(t, holdpost.Config{Logger: slog.New(slog.DiscardHandler)}, func(t *testing.T, w *world) {
				if wrap != nil {
					w.main.Wrap(wrap)
				}
				w.srv.Of("/known").Wrap(func(ctx context.Context, s *holdpost.Socket, event string, args holdpost.Args, next holdpost.Handler) ([]any, error) {
					return []any{event}, nil
				})
				bystander := &client{Peer: w.Connect(peertest.WebSocket), w: w}
				bystander.join("/known", "")
				for i, tt := range hostile {
					c := w.connect(peertest.WebSocket)
					c.throw(tt.packets...)
					c.throw(`42["echo"]`)
					bystander.Send(fmt.Sprintf(`42/known,%d["x"]`, i))
					bystander.Want("is served beside "+tt.name, fmt.Sprintf(`43/known,%d["x"]`, i))
				}
				if err := w.srv.Shutdown(background); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Nothing but CONNECT is taken from a client that was let in nowhere.
func TestBeforeConnect(t *testing.T) {
	for _, packet := range []string{`42["echo"]`, `421["echo"]`, `431[]`, `41`, `44{}`, `451-["echo",{"_placeholder":true,"num":0}]`, "4", "4x", `42/known,["echo"]`, binary + "abc"} {
		for _, gate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s gate %v", packet, gate), func(t *testing.T) {
				run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
					w.srv.Of("/known")
					w.main.On("echo", reply)
					w.main.Use(func(ctx context.Context, _ *holdpost.Socket) error { <-ctx.Done(); return nil })
					c := &client{Peer: w.Connect(transport), w: w}
					if gate {
						c.Send("40")
						synctest.Wait()
					}
					start := time.Now()
					c.throw(packet)
					c.wantClosed("closed")
					if d := time.Since(start); d > time.Second {
						t.Errorf("after %v", d)
					}
				})
			})
		}
	}
}

// Each limit holds where the Config puts it.
func TestConfiguredLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		config        holdpost.Config
		within, above string
		answer        string
	}{
		"name of an event":    {holdpost.Config{MaxNameBytes: 4}, `421["echo"]`, `421["echoo"]`, `431[]`},
		"name of a namespace": {holdpost.Config{MaxNameBytes: 4}, `40/abc`, `40/abcd`, `44/abc,{"message":"Invalid namespace"}`},
		"name in many bytes":  {holdpost.Config{MaxNameBytes: 4}, "40/€", "40/€a", "44/€" + `,{"message":"Invalid namespace"}`},
		"nesting":             {holdpost.Config{MaxDepth: 3}, `421["echo",[[]]]`, `421["echo",[[[]]]]`, `431[[[]]]`},
		"values":              {holdpost.Config{MaxValues: 4}, `421["echo",[1]]`, `421["echo",[1,2]]`, `431[[1]]`},
		"auth":                {holdpost.Config{MaxAuthBytes: 8}, `40/x,{"a":12}`, `40/x,{"a":123}`, `44/x,{"message":"Invalid namespace"}`},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, tt.config, func(t *testing.T, w *world, transport string) {
				w.main.On("echo", reply)
				c := w.connect(transport)
				c.Send(tt.within)
				c.Want("at the limit", tt.answer)
				c.Throw(tt.above)
				c.wantClosed("beyond it")
			})
		})
	}
	run(t, holdpost.Config{MaxAttachments: 1}, func(t *testing.T, w *world, transport string) {
		w.main.On("echo", reply)
		c := w.connect(transport)
		c.throw(`451-1["echo",{"_placeholder":true,"num":0}]`, binary+"a")
		c.Want("at the limit", `461-1[{"_placeholder":true,"num":0}]`, "binary 61")
		c.Throw(`452-1["echo",{"_placeholder":true,"num":0}]`)
		c.wantClosed("beyond it")
	})
}

// An event whose attachments do not come holds little, and not for long; a namespace joined meanwhile changes nothing.
func TestAttachmentsThatDoNotCome(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		var got record
		got.watch(w.main)
		w.srv.Of("/slow").Use(func(context.Context, *holdpost.Socket) error { time.Sleep(time.Second); return nil })
		c := w.connect(transport)
		start := time.Now()
		c.Send("40/slow,")
		c.throw(`452-["echo",{"_placeholder":true,"num":0}]`, binary+"abc")
		c.joined("/slow,")
		c.wantClosed("after the attachment timeout")
		if d := time.Since(start); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("closed after %v", d)
		}
		got.want(t, "as no packet", "parse error")
	})
}

// Text and attachments of one event have a common limit.
func TestEventOfManyBytes(t *testing.T) {
	for _, over := range []int{0, 1} {
		run(t, holdpost.Config{MaxPayload: 10_000}, func(t *testing.T, w *world, transport string) {
			w.main.On("count", func(_ context.Context, _ *holdpost.Socket, args holdpost.Args) ([]any, error) {
				return []any{len(args.Attachments())}, nil
			})
			c := w.connect(transport)
			text := `54-1["count",{"_placeholder":true,"num":0}]`
			c.Send("4" + text)
			for range 3 {
				c.SendBinary(make([]byte, 5000))
			}
			c.ThrowBinary(make([]byte, 20_000-len(text)-15_000+over))
			if over == 0 {
				c.Want("at the limit", `431[4]`)
			} else {
				c.wantClosed("beyond it")
			}
		})
	}
}

// A connection may be in a limited number of namespaces, those included where it waits at a gate.
func TestMaxNamespaces(t *testing.T) {
	run(t, holdpost.Config{MaxNamespaces: 3}, func(t *testing.T, w *world, transport string) {
		w.srv.Of("/a")
		w.srv.Of("/b").Use(func(ctx context.Context, _ *holdpost.Socket) error { <-ctx.Done(); return nil })
		w.srv.Of("/c")
		c := w.connect(transport)
		c.join("/a", "")
		c.Send("40/b,")
		c.Send("40/c,")
		c.Want("one too many", `44/c,{"message":"Too many namespaces"}`)
		c.Send("41/a")
		c.join("/c", "")
		for i := range 100 {
			c.Send(fmt.Sprintf("40/none%d,", i))
			c.Want("those that do not exist do not count", fmt.Sprintf(`44/none%d,{"message":"Invalid namespace"}`, i))
		}
	})
}

// Joining and leaving, however often, keeps nothing.
func TestJoinAndLeaveForEver(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		c := w.connect(peertest.WebSocket)
		time.Sleep(time.Second) // of the bubble: goroutines that have nothing to do end meanwhile
		before := runtime.NumGoroutine()
		for range 2000 {
			c.Send("41")
			c.Send("40")
			c.joined("")
		}
		time.Sleep(time.Second)
		if n := runtime.NumGoroutine(); n > before+10 { // some of other tests may be coming and going
			t.Errorf("%d goroutines, %d before", n, before)
		}
		if w.main.Len() != 1 {
			t.Errorf("%d sockets", w.main.Len())
		}
	})
}
