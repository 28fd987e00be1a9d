package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/holdpost/holdpost/queue"
)

// Who opens a queue together with somebody that gives up, for whatever cause, gets it.
func TestQueueThatAnotherGaveUp(t *testing.T) {
	n := open(t, t.TempDir())
	for i := range 200 {
		c := queue.QueueConfig{Topic: "orders", Name: fmt.Sprint(i)}
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				ctx, cancel := context.WithCancelCause(t.Context())
				cancel(errors.New("gone"))
				n.Queue(ctx, c) // which finds it there if the others were faster
			})
			group.Go(func() {
				if _, err := n.Queue(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
}
