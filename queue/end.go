package queue

// End returns the position of the newest event that is stored durably. It moves before the publisher of an event is told.
func (b *Broker) End() Offset { return Offset{b.epoch, b.durable.load()} }
