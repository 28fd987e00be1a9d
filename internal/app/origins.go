package app

import (
	"net"
	"net/netip"
	"os"
)

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
