// Package guard has what the engines of package queue share in watching over a log: the names of its epochs and how they ended,
// and whether the clock can be believed by which its events expire.
package guard

import (
	"crypto/rand"
	"encoding/binary"
	"slices"

	"github.com/holdpost/holdpost/queue"
)

// The streams that package queue makes and whose ends are on record.
const (
	Events  = "EVT_0"
	Cursors = "CUR"
	Delayed = "DLY"
)

// MaxLosses is how many ends of epochs are remembered; older ones are forgotten.
const MaxLosses = 64

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
func AddLoss(losses []queue.Loss, l queue.Loss) []queue.Loss {
	losses = append(slices.Clone(losses), l)
	return losses[max(0, len(losses)-MaxLosses):]
}
