// Package embedded runs the log of package queue inside the process: a JetStream server without a listener, whose
// acknowledgements are made durable by a group commit, and a store guard that notices when acknowledged events are gone.
//
// # Durability
//
// JetStream writes a message to its file before it acknowledges it, but leaves the disk to the kernel. At level "disk"
// [Engine.Commit] closes that hole for all acknowledgements that came before it: it writes the high-water mark and
// flushes the file system of the data directory, so that one flush serves every publisher that waits. What Commit has
// covered survives a killed process, a crashed kernel and a power cut, on a disk that honours flushes. The flush covers
// the whole file system: a data directory on a volume of its own is not slowed down by its neighbours. Off Linux the
// server syncs each message itself, which is slower. At level "memory" nothing is flushed: events survive a killed
// process, and a power cut ends the epoch.
//
// After the first flush that fails, the engine has failed for good, because a later flush that succeeds does not say
// that the earlier data arrived.
//
// # Store guard
//
// The high-water mark is what the store once promised: the epoch, the last sequence, how many messages may be missing. Start reads
// every record before the server does, since the server drops what it can't read without a word, and compares what is there with
// the mark. If something is missing or unreadable it returns a [*LossError] that names it and opens nothing; with AcceptLoss it
// keeps the damaged files aside and starts a new epoch instead, so that no offset of the old one is taken for an event that
// got its number later. What was never acknowledged, and what had been deleted before, it mends by itself. While the engine runs
// it reads the store through once a day. [Verify] and [Repair] do the same for a store at rest, [Engine.Backup] and [Restore]
// bring one elsewhere. docs/store.md has the formats.
//
// # Clock
//
// Events expire by the wall clock. When it was changed, while the store was closed or since, [Engine.Clock] says so for ten
// minutes, and package queue lets nothing expire meanwhile.
//
// # Full disk
//
// A reserve of the disk stays free. When it is touched, [Engine.Room] reports queue.ErrFull until there is room again,
// and when half of it is gone the server refuses every write, because one that meets a full disk does not recover by
// itself.
package embedded
