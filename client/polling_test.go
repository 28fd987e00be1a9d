package client_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdpost/holdpost/client"
	"github.com/holdpost/holdpost/internal/peertest"
)

// A poll whose connection breaks ends the session: if it were repeated, what its answer brought would be missing without a word.
func TestPollsAreNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const kept = 5 // polls over one connection, before it breaks
		sessions := 0
		polls := make(map[string]int) // by session
		host := peertest.New(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sid := r.URL.Query().Get("sid")
			switch {
			case r.Method == http.MethodPost:
				io.Copy(io.Discard, r.Body)
				io.WriteString(w, "ok")
			case sid == "":
				sessions++
				io.WriteString(w, strings.Replace(openPacket, "abc", fmt.Sprint(sessions), 1))
			default:
				if polls[sid]++; polls[sid] < kept {
					io.WriteString(w, "6")
					return
				}
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					panic(err)
				}
				conn.Close()
			}
		}))
		lost := make(chan error, 10)
		cl := client.New("http://test", &client.Config{Dial: (&world{Host: host}).dial, Transports: []string{"polling"}})
		defer cl.Close()
		s := cl.Of("/")
		s.OnError(func(err error) { lost <- err })
		go s.Connect(background)
		for range 3 {
			<-lost
		}
		s.Disconnect()
		synctest.Wait()
		if len(polls) != sessions || slices.Max(slices.Collect(maps.Values(polls))) != kept {
			t.Errorf("polls of %d sessions: %v", sessions, polls)
		}
	})
}
