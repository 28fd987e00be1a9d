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
