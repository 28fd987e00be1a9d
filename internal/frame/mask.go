package frame

import (
	"encoding/binary"
	"math/bits"
)

// mask applies the key to b in place, for masking and unmasking alike (RFC 6455 §5.3). key holds the four bytes in
// little-endian order; pos is the offset of b in its frame's payload.
func mask(b []byte, key uint32, pos int) {
	key = bits.RotateLeft32(key, -8*(pos&3))
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 32 {
		c := b[:32:32]
		binary.LittleEndian.PutUint64(c[0:], binary.LittleEndian.Uint64(c[0:])^wide)
		binary.LittleEndian.PutUint64(c[8:], binary.LittleEndian.Uint64(c[8:])^wide)
		binary.LittleEndian.PutUint64(c[16:], binary.LittleEndian.Uint64(c[16:])^wide)
		binary.LittleEndian.PutUint64(c[24:], binary.LittleEndian.Uint64(c[24:])^wide)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key >> (8 * (i & 3)))
	}
}
