// Package index is a node's read model of the log: the events by topic, so that replay, history and paging are range
// scans instead of searches through the log. It is derived from the log and disposable: whatever is wrong with its files
// is repaired by removing them and reading the log again, and Open does just that.
//
// It is a Pebble store without a write-ahead log. Batches reach the disk in order, each together with the position in
// the log that it ends at, so after a crash the index is what it was some time earlier, and the reader of the log goes
// on from there.
//
// An [Index] has one writer (Reset, Apply, Skip, Trim) and any number of readers beside it. A reader sees the index as
// it was when its call began. When Pebble can neither go on nor report an error, which a full disk below the reserve can
// bring about, it panics.
package index
