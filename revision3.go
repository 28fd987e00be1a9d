package holdpost

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/holdpost/holdpost/internal/packet"
)

// Clients of Socket.IO v2 speak revision 3 of Engine.IO, and the packets of revision 4 of the protocol above it, which
// differ from today's in how a socket comes into a namespace.

// v2 reports whether the client is of Socket.IO v2.
func (c *conn) v2() bool { return c.session.Revision() == 3 }

// connectV2 connects a client of Socket.IO v2 to the main namespace, for which it does not ask.
func (c *conn) connectV2() {
	_ = c.connect(&packet.Packet{Type: packet.Connect, Namespace: "/"}) // the first one never fails
	if work := c.Batch(); work != nil {
		go work.Run() // Server.Shutdown waits for it
	}
}

// revise makes of a CONNECT of Socket.IO v2 what it means today: the query behind the namespace is the auth object.
func (c *conn) revise(p *packet.Packet) {
	name, query, _ := strings.Cut(p.Namespace, "?")
	p.Namespace, p.Data = name, nil
	values, err := url.ParseQuery(query)
	if err != nil || len(values) == 0 {
		return
	}
	auth := make(map[string]any, len(values))
	for key, list := range values {
		if auth[key] = list[0]; len(list) > 1 {
			auth[key] = list
		}
	}
	p.Data, _ = json.Marshal(auth) // texts always marshal
}

// idV2 is the id that a client of Socket.IO v2 gives its socket by itself.
func (s *Socket) idV2() string {
	if s.ns.name == "/" {
		return s.conn.session.ID()
	}
	return s.ns.name + "#" + s.conn.session.ID()
}

// shownV2 is what a client of Socket.IO v2 is told of a refusal: the data, or else the message, and nothing around it.
func (e *ConnectError) shownV2() any {
	switch {
	case e == errInvalidNamespace:
		return e
	case e.Data != nil:
		return e.Data
	}
	return e.Message
}
