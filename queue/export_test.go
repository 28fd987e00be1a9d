package queue

// Queues returns how many queues the broker remembers.
func Queues(b *Broker) int {
	b.queuesMu.Lock()
	defer b.queuesMu.Unlock()
	return len(b.queues)
}
