package queue

// Queues returns how many queues the broker remembers.
func Queues(b *Broker) int {
	b.queuesMu.Lock()
	defer b.queuesMu.Unlock()
	return len(b.queues)
}

// Live returns how many consumers of a topic get events from the tail.
func Live(b *Broker, topic string) int {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	if a := b.hub.topics[topic]; a != nil {
		return len(a.members)
	}
	return 0
}

// Again returns how many events of a shared queue are to be handed out again now.
func Again(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.shared.redo)
}

// Parked says whether nobody serves a consumer until it is woken.
func Parked(c *Consumer) bool {
	c.reader.mu.Lock()
	defer c.reader.mu.Unlock()
	return c.reader.state == parked
}

// Refused returns what an error of the log means.
var Refused = refused
