package gate

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Forwarded has h see requests that come through one of the proxies as coming from their clients, by X-Forwarded-For: as the
// address in [http.Request.RemoteAddr], without a port then. Of the addresses in the header the last counts that is none of the
// proxies': what is before it anybody may have written.
func Forwarded(h http.Handler, proxies []netip.Prefix) http.Handler {
	if len(proxies) == 0 {
		return h
	}
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		peer, err := netip.ParseAddr(host)
		if err != nil || !trusted(peer.Unmap()) {
			h.ServeHTTP(w, r)
			return
		}
		client := peer
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for _, hop := range slices.Backward(hops) {
			before, err := netip.ParseAddr(strings.TrimSpace(hop))
			if err != nil {
				break
			}
			if client = before.Unmap(); !trusted(client) {
				break
			}
		}
		if client != peer {
			forwarded := *r
			forwarded.RemoteAddr = client.String()
			r = &forwarded
		}
		h.ServeHTTP(w, r)
	})
}
