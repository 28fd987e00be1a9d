package delivery_test

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/holdpost/holdpost/delivery"
)

// A server that is closed without waiting goes on storing sessions for a moment, also while its journal is being closed.
func TestJournalSavesWhileItCloses(t *testing.T) {
	s := openStore(t, t.TempDir(), nil)
	s.close()
	j := delivery.NewJournal(s.Broker, slog.New(slog.DiscardHandler))
	const saves = 5_000
	done := make(chan struct{})
	var closers, told sync.WaitGroup
	for range 2 {
		closers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					j.Close()
				}
			}
		})
	}
	told.Add(saves)
	for range saves {
		j.Save("session", []byte("{}"), func(ok bool) {
			if ok {
				t.Error("a closed broker has stored a session")
			}
			told.Done()
		})
	}
	told.Wait()
	close(done)
	closers.Wait()
}
