// Package external keeps the log of package queue on NATS servers of one's own: one server, or a cluster that replicates.
//
// # Durability
//
// An event is acknowledged once JetStream has acknowledged it. Of a cluster that is once most replicas have it: it survives the loss of any
// minority of them, disks included. Whether it survives a power cut of all is up to the servers: only with sync_interval: always do
// they flush before they acknowledge.
//
// # One node at a time
//
// A broker has its queues in memory, so two of them on the same streams would undo each other's work. The engine that may use the log has
// its name in a record in the key-value bucket HOLDPOST, which it renews every second by compare-and-set. A second one gets [ErrInUse],
// unless the name has not been renewed for ten seconds: then its holder is gone, and the log is taken over. One that could not renew its
// name for five seconds refuses to publish until it can, or finds that it has been replaced, which is for good.
//
// # Guarding the log
//
// The record also has the log's epoch, how earlier ones ended, and for each stream when it was made and the highest sequence that was
// acknowledged, at most a second old. [Start] compares it, and what the node's index has seen, with the streams. If a stream is another
// one than it was, or has come to end earlier, it returns a [*LossError] and begins nothing; with AcceptLoss it begins a new epoch, and
// readers are told of the gap. What is missing in the middle of a stream it does not notice: servers tell how many messages are deleted,
// but not on whose behalf, and a replica that begins to lead may tell fewer for a moment, so that a count would raise false alarms.
// Replicas are the cluster's to keep alike.
//
// # Outages
//
// While the servers can't be reached, [Engine.Health] says so and package queue refuses to publish; what was on its way has an unknown
// outcome. Everything goes on by itself once they are back. The same when they do not let this user in any more, or do not let it do
// something; the file of credentials is read again for each connection. A connection over which JetStream has not answered for ten
// seconds is made anew, to another server if there is one: it may be cut off from the others. Only when the log is not the one that it
// was, or another node has taken it over, the engine has failed for good and has to be started anew.
package external
