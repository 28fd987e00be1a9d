package engineio

import (
	"testing"
	"time"
)

func TestEcho(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		h.serve = echo
		c := h.connect(transport)
		c.send("4hello")
		c.want("text comes back", "4hello")
		c.sendBinary([]byte{1, 2, 3})
		c.want("binary comes back", "binary 010203")
		c.send("4")
		c.want("an empty message is a message", "4")
		c.sendBinary(nil)
		c.want("an empty binary message too", "binary ")
	})
}

func TestHeartbeat(t *testing.T) {
	run(t, Config{}, func(t *testing.T, h *host, transport string) {
		c := h.connect(transport)
		start := time.Now()
		for range 3 {
			c.want("server pings", "2")
			c.send("3")
		}
		if d := time.Since(start); d < 75*time.Second || d > 76*time.Second {
			t.Errorf("three pings took %v", d)
		}
		c.want("one more", "2")
		start = time.Now()
		c.ended("without a pong", ReasonPingTimeout)
		if d := time.Since(start); d < 20*time.Second || d > 21*time.Second {
			t.Errorf("timeout after %v", d)
		}
	})
}
