// Package guard has what package queue and its engines share: the names of the streams, of epochs and how those ended; whether the
// clock can be believed by which events expire; and how servers are asked that are without a leader for a moment.
package guard

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The streams whose ends are on record.
const (
	Events  = "EVT_0"
	Cursors = "CUR"
	Delayed = "DLY"
)

// MaxLosses is how many ends of epochs are remembered; older ones are forgotten.
const MaxLosses = 64

const (
	patience = 30 * time.Second // with servers that do not answer
	attempt  = 5 * time.Second  // what is asked while there is no leader is lost
	pause    = 100 * time.Millisecond

	noLeader = 10008 // "JetStream system temporarily unavailable"
	noPeers  = 10005 // "no suitable peers for placement", of which some may just have been started
)

// NewEpoch returns a random number that is not 0.
func NewEpoch() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails
		if n := binary.LittleEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// AddLoss returns the losses with the newest one behind the others, which it leaves as they are.
func AddLoss[Loss any](losses []Loss, l Loss) []Loss {
	losses = append(slices.Clone(losses), l)
	return losses[max(0, len(losses)-MaxLosses):]
}

// Patiently calls f, which asks JetStream for something, until it is answered: it may be called again though it was carried out. It
// returns f's error when that is an answer, and when there was none for half a minute or ctx has ended.
func Patiently(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		short, cancel := context.WithTimeout(ctx, attempt)
		err := f(short)
		cancel()
		api, _ := errors.AsType[*jetstream.APIError](err)
		passes := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
			api != nil && (api.ErrorCode == noLeader || api.ErrorCode == noPeers)
		if !passes {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}
