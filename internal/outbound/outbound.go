// Package outbound makes HTTP clients for requests whose URL or name server somebody else may control: they reach public
// addresses only, whatever a name resolves to, follow no redirect and wait for nobody long.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrPrivate reports that an address is not public and was not allowed.
var ErrPrivate = errors.New("the address is not public")

// private lists what is not reachable from everywhere though it looks like an address of its own (RFC 6890), besides what
// netip knows. The last ones have an IPv4 address inside, which may be any.
var private = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("fec0::/10"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("2002::/16"),
}

// Networks are those that clients may reach though they are not public. They may be replaced at any time, by any goroutine; the zero
// value has none.
type Networks struct {
	now atomic.Pointer[[]netip.Prefix]
}

// Replace counts for connections that are made from then on.
func (n *Networks) Replace(all []netip.Prefix) { n.now.Store(&all) }

func (n *Networks) allowed() []netip.Prefix {
	if now := n.now.Load(); now != nil {
		return *now
	}
	return nil
}

// Check returns an error that wraps [ErrPrivate] unless the address is public or in one of the allowed networks.
func Check(addr netip.Addr, allowed []netip.Prefix) error {
	addr = addr.Unmap().WithZone("")
	in := func(p netip.Prefix) bool { return p.Contains(addr) }
	if slices.ContainsFunc(allowed, in) {
		return nil
	}
	if !addr.IsGlobalUnicast() || addr.IsPrivate() || slices.ContainsFunc(private, in) {
		return fmt.Errorf("%s: %w", addr, ErrPrivate)
	}
	return nil
}

// Client returns a client that reaches public addresses and those of the allowed networks. The check is made on the address
// that is connected to, after names were resolved. timeout bounds a request with its response.
func Client(allowed *Networks, timeout time.Duration) *http.Client {
	dialer := &net.Dialer{
		Timeout: timeout,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return Check(to.Addr(), allowed.allowed())
		},
	}
	return &http.Client{
		Timeout: timeout,
		// No proxy: the check would see the proxy's address.
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    timeout,
			ResponseHeaderTimeout:  timeout,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true, // a small body must not become a large one
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
