//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/holdpost/holdpost/queue"
)

// idle is a store with many personal queues, each with a topic of its own, when nobody is connected.
type idle struct {
	Queues int           `json:"queues"`
	Start  time.Duration `json:"startns"` // of engine, index and broker, until it is ready
	Memory float64       `json:"bytes"`   // heap of the process after the start, less that before it, for each queue
	Disk   int64         `json:"disk"`    // bytes
}

func measureIdle(ctx context.Context, dir string, queues int, logger *slog.Logger) (*idle, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*herdTime)
	defer cancel()
	x := &idle{Queues: queues}
	s, err := openStore(ctx, dir, "", logger)
	if err != nil {
		return nil, err
	}
	err = makeIdle(ctx, s.broker, queues)
	if err := errors.Join(err, s.close()); err != nil {
		return nil, err
	}
	s = nil // so that nothing of it is counted
	before := heap()
	start := time.Now()
	if s, err = openStore(ctx, dir, "", logger); err != nil {
		return nil, err
	}
	for s.broker.Ready() != nil {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), s.close())
		}
	}
	x.Start = time.Since(start).Round(time.Millisecond)
	x.Memory = float64(heap()-before) / float64(queues)
	if err := s.close(); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			x.Disk += info.Size()
		}
		return err
	})
	return x, err
}

// makeIdle makes the queues, and publishes an event to each.
func makeIdle(ctx context.Context, b *queue.Broker, queues int) error {
	const makers = 256
	var group sync.WaitGroup
	errs := make([]error, makers)
	for m := range makers {
		group.Go(func() {
			for i := m; i < queues && errs[m] == nil; i += makers {
				topic := fmt.Sprintf("inbox/%d", i)
				if _, errs[m] = b.Queue(ctx, queue.QueueConfig{Topic: topic, Name: fmt.Sprint("client-", i), From: queue.StartNew}); errs[m] == nil {
					_, errs[m] = b.Publish(ctx, queue.Message{Topic: topic, Event: "post", Args: missedArgs(i, 0)})
				}
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one made free to be freed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
