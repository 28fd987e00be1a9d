package holdpost_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdpost/holdpost"
)

// What is delivered without flushing goes out with Flush, or by itself a little later.
func TestDeliver(t *testing.T) {
	run(t, holdpost.Config{}, func(t *testing.T, w *world, transport string) {
		c := w.connect(transport)
		s := c.socket()
		p, err := holdpost.Prepare("e", 1)
		if err != nil {
			t.Fatal(err)
		}
		drained := make(chan bool, 1)
		for _, flush := range []bool{false, false, true} {
			if err := s.Deliver(p, flush); err != nil {
				t.Error(err)
			}
		}
		c.Want("all with the last", `42["e",1]`, `42["e",1]`, `42["e",1]`)
		s.Deliver(p, false)
		if s.Queued() == 0 {
			t.Error("nothing is queued")
		}
		s.NotifyDrained(func() { drained <- true })
		s.Flush()
		c.Want("with Flush", `42["e",1]`)
		<-drained
		start := time.Now()
		s.Deliver(p, false)
		c.Want("by itself", `42["e",1]`)
		if d := time.Since(start); d > 10*time.Millisecond {
			t.Errorf("after %v", d)
		}
		synctest.Wait()
		if s.Queued() != 0 {
			t.Errorf("%d bytes queued", s.Queued())
		}
		s.NotifyDrained(func() { drained <- true })
		<-drained
		if !s.Connected() || s.Err() != nil {
			t.Errorf("connected %v, %v", s.Connected(), s.Err())
		}
		s.Disconnect(false)
		if s.Connected() || s.Err() == nil {
			t.Errorf("connected %v, %v", s.Connected(), s.Err())
		}
		if err := s.Deliver(p, true); err == nil {
			t.Error("emits after the end")
		}
		c.Want("only the end", "41")
	})
}

// Confirm tells when the client has all that was emitted before.
func TestConfirm(t *testing.T) {
	run(t, holdpost.Config{PingInterval: 25 * time.Second}, func(t *testing.T, w *world, transport string) {
		var got record
		c := w.connect(transport)
		s := c.socket()
		s.Emit(background, "e")
		s.Confirm(func(received bool) { got.add("%v", received) })
		c.Want("a heartbeat goes out behind it", `42["e"]`, "2")
		got.want(t, "not yet")
		c.Send("3")
		got.want(t, "answered", "true")
		s.Confirm(func(received bool) { got.add("%v", received) })
		c.Close()
		got.want(t, "the connection ends first", "true", "false")
	})
}
