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
// The high-water mark is what the store once promised: the epoch, the last sequence, the message count. Start compares
// it with what the server found. If something is missing it returns a [*LossError] that names it and opens nothing;
// with AcceptLoss it starts a new epoch instead, so that no offset of the old one is taken for an event that got its
// number later. The guard counts; it does not read every record, so damage inside a record that the server skips
// without counting it shows only when the record is read.
//
// # Full disk
//
// A reserve of the disk stays free. When it is touched, [Engine.Room] reports queue.ErrFull until there is room again,
// and when half of it is gone the server refuses every write, because one that meets a full disk does not recover by
// itself.
package embedded
