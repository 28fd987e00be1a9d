package holdpost_test

import (
	"sync"
	"testing"

	"github.com/holdpost/holdpost"
)

func TestKeys(t *testing.T) {
	bubble(t, holdpost.Config{}, func(t *testing.T, w *world) {
		name, age, twin := holdpost.NewKey[string]("name"), holdpost.NewKey[int]("age"), holdpost.NewKey[string]("name")
		a, b := w.connect("websocket").socket(), w.connect("websocket").socket()
		if v, ok := name.Get(a); ok || v != "" {
			t.Errorf("before it was set: %q %v", v, ok)
		}
		name.Set(a, "ann")
		age.Set(a, 7)
		name.Set(a, "eve")
		if v, ok := name.Get(a); !ok || v != "eve" {
			t.Errorf("got %q %v", v, ok)
		}
		if v, ok := age.Get(a); !ok || v != 7 {
			t.Errorf("got %d %v", v, ok)
		}
		if _, ok := twin.Get(a); ok {
			t.Error("two keys of one name are one")
		}
		if _, ok := name.Get(b); ok {
			t.Error("two sockets share a value")
		}
		if v := age.LoadOrSet(a, func() int { t.Error("set already"); return 0 }); v != 7 {
			t.Errorf("got %d", v)
		}
		a.Disconnect(false)
		if v, ok := name.Get(a); !ok || v != "eve" {
			t.Errorf("after the end: %q %v", v, ok)
		}
		if name.String() != "name" {
			t.Errorf("the key is called %q", name)
		}
		made := 0
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { twin.LoadOrSet(b, func() string { made++; return "x" }) })
		}
		all.Wait()
		if made != 1 {
			t.Errorf("made %d times", made)
		}
	})
}
