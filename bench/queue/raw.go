//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// measureRaw publishes to the server that the embedded engine runs, without anything of ours: with sync it flushes each message, and
// without nothing that it acknowledges within two minutes survives a power cut.
func measureRaw(ctx context.Context, dir string, n, bytes int, d time.Duration, sync bool) (p *published, err error) {
	dir = filepath.Join(dir, "raw")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir, SyncAlways: sync})
	if err != nil {
		return nil, err
	}
	s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("the server does not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw.>"}}); err != nil {
		return nil, err
	}
	data := payload(bytes)
	return measurePublish(n, d, func(publisher int) error {
		_, err := js.Publish(ctx, fmt.Sprintf("raw.%d", publisher), data)
		return err
	})
}
