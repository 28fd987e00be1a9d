package app

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/internal/peertest"
)

// When the server ends, clients are closed at the rate that it was configured with, or was told by a reload: those whose turn has not
// come are answered as before.
func TestDrainAtTheConfiguredRate(t *testing.T) {
	for name, start := range map[string]int{"from the start": 1, "by a reload": 1000} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, func(c *config.Config) { c.Drain.Rate, c.Drain.Patience = start, time.Hour })
			slow := *p.server.config
			slow.Drain.Rate = 1
			if start != slow.Drain.Rate {
				p.server.load = func() (*config.Config, error) { return &slow, nil }
				p.server.reload(t.Context())
			}
			var peers []*peertest.Peer
			for range 4 {
				peer := p.Connect(peertest.WebSocket)
				auth, _ := json.Marshal(map[string]string{"token": token(t, jwt.SigningMethodHS256, []byte(jwtSecret), nil)})
				peer.Send("40" + string(auth))
				if said := peer.Next(); !strings.HasPrefix(said, "40") {
					t.Fatal(said)
				}
				peers = append(peers, peer)
			}
			p.drain()
			var first int
			select {
			case <-peers[0].In:
			case <-peers[1].In:
				first = 1
			case <-peers[2].In:
				first = 2
			case <-peers[3].In:
				first = 3
			}
			answered := 0
			for i, peer := range peers {
				if i != first && askPeer(peer, 1, `["presence","mine"]`) == "" {
					answered++
				}
			}
			if answered == 0 {
				t.Error("when one was closed, all were")
			}
		})
	}
}
