//go:build linux

package load

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Dial opens n more connections, at most parallel of them at a time, and returns once each is in the namespace "/".
func (l *Loop) Dial(n, parallel int, timeout time.Duration) error {
	want := len(l.conns) + n
	err := l.Run(timeout, func() bool {
		for l.err == nil && len(l.conns) < want && len(l.conns)-l.ready < parallel {
			if err := l.open(); err != nil {
				l.Fail(err)
			}
		}
		return l.ready == want
	})
	if err != nil {
		return fmt.Errorf("dial %d connections (%d ready): %w", want, l.ready, err)
	}
	return nil
}

func (l *Loop) open() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c := &Conn{Index: len(l.conns), l: l, fd: fd}
	for i := range c.key {
		c.key[i] = byte(1 + rand.IntN(255))
	}
	l.conns = append(l.conns, c)
	for len(l.byFD) <= fd {
		l.byFD = append(l.byFD, nil)
	}
	l.byFD[fd] = c
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("setsockopt: %w", err)
	}
	if l.addr.Addr[0] == 127 {
		// Other source addresses within 127/8 give each its own range of ports. The port is chosen at connect.
		src := sourceAddr(c.Index)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("setsockopt: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: src}); err != nil {
			return fmt.Errorf("bind %v: %w", src, err)
		}
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	if err := unix.Connect(fd, &l.addr); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// sourceAddr spreads connections over 1000 addresses from 127.0.2.1 on.
func sourceAddr(i int) [4]byte {
	i %= 1000
	return [4]byte{127, 0, byte(2 + i/250), byte(1 + i%250)}
}

func parseAddr(hostport string) (unix.SockaddrInet4, error) {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil || !ap.Addr().Is4() {
		return unix.SockaddrInet4{}, fmt.Errorf("address %q: want an IPv4 address and a port", hostport)
	}
	return unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}, nil
}

const wsKey = "aG9sZHBvc3QgYmVuY2gxMg=="

// upgradeRequest has the headers that a browser sends, about 600 bytes: parsing them is part of a handshake's cost.
func upgradeRequest(host string) []byte {
	return []byte("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n" +
		"Host: " + host + "\r\n" +
		"Connection: Upgrade\r\n" +
		"Pragma: no-cache\r\n" +
		"Cache-Control: no-cache\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
		"Upgrade: websocket\r\n" +
		"Origin: http://" + host + "\r\n" +
		"Sec-WebSocket-Version: 13\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Accept-Language: en-GB,en;q=0.9\r\n" +
		"Cookie: session=7f0c2c9f1f9a4d0e8c1b; theme=dark\r\n" +
		"Sec-WebSocket-Key: " + wsKey + "\r\n" +
		"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n")
}

var wsAccept = acceptOf(wsKey)

// acceptOf is the answer to a key, RFC 6455 §4.2.2.
func acceptOf(key string) []byte {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

func checkUpgrade(head []byte) error {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, wsAccept) {
		return fmt.Errorf("upgrade refused: %q", head)
	}
	if bytes.Contains(bytes.ToLower(head), []byte("sec-websocket-extensions")) {
		return fmt.Errorf("the server took up an extension: %q", head)
	}
	return nil
}
