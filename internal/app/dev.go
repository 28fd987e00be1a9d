package app

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdpost/holdpost"
)

// maxIdentity bounds an identity in bytes: it is the name of a queue.
const maxIdentity = 255

// identities keeps who each socket said that it is.
var identities = holdpost.NewKey[string]("identity")

// devGate believes every client: its identity is auth.client. Without one it has none.
func devGate(_ context.Context, s *holdpost.Socket) error {
	identity, problem := clientOf(s.Handshake().Auth)
	if problem != "" {
		return &holdpost.ConnectError{Message: problem, Data: map[string]string{"code": "invalid_identity"}}
	}
	if identity != "" {
		identities.Set(s, identity)
	}
	return nil
}

func identityOf(s *holdpost.Socket) string {
	identity, _ := identities.Get(s)
	return identity
}

// clientOf reads auth.client. What is wrong with it is told to the client.
func clientOf(auth json.RawMessage) (identity, problem string) {
	if len(auth) == 0 {
		return "", ""
	}
	members := make(map[string]json.RawMessage)
	if err := json.Unmarshal(auth, &members); err != nil {
		return "", "auth is not an object"
	}
	raw, ok := members["client"]
	if !ok || string(raw) == "null" {
		return "", ""
	}
	if err := json.Unmarshal(raw, &identity); err != nil {
		return "", "auth.client is not a string"
	}
	switch {
	case identity == "":
		return "", "auth.client is empty"
	case len(identity) > maxIdentity:
		return "", "auth.client is longer than 255 bytes"
	case !utf8.ValidString(identity) || strings.ContainsFunc(identity, unicode.IsControl):
		return "", "auth.client has control characters"
	}
	return identity, ""
}

// devOrigins lists the pages that may connect in dev mode: those of this machine, whatever their port, so that a page of
// another development server works. A server that listens on all addresses is also known by those, and by the machine's
// name. Any name that the request itself gives would not do: a foreign page can make its own name point here.
func devOrigins(listen net.Addr) []string {
	hosts := []string{"localhost", "127.0.0.1", "[::1]"}
	if tcp, ok := listen.(*net.TCPAddr); ok {
		switch addr := tcp.AddrPort().Addr().Unmap(); {
		case addr.IsUnspecified():
			hosts = append(hosts, machineNames()...)
		case !addr.IsLoopback():
			hosts = append(hosts, bracketed(addr))
		}
	}
	var origins []string
	for _, host := range hosts {
		origins = append(origins, "http://"+host+":*", "https://"+host+":*")
	}
	return origins
}

func machineNames() []string {
	var names []string
	if name, err := os.Hostname(); err == nil && name != "" {
		names = append(names, name, name+".local")
	}
	addrs, _ := net.InterfaceAddrs() // without them the page is reachable by the names that are left
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok && !addr.IsLoopback() {
				names = append(names, bracketed(addr.Unmap()))
			}
		}
	}
	return names
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.WithZone("").String() + "]"
	}
	return a.String()
}
