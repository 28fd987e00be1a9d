package client

// progress is what a consumer has handled: how far in order, and which events beyond that. The zero value has handled nothing.
type progress struct {
	upto string              // offset up to which everything was handled, "" when that is not known
	open []string            // offered and not handled, or handled behind one that is not; in the order in which they came
	seen map[string]struct{} // handled
	list []string            // what is in seen, oldest first
}

// Offsets that are remembered at most: many more than a server sends ahead.
const maxRemembered = 4096

// begin says where the queue stood.
func (g *progress) begin(offset string) {
	if g.upto == "" && len(g.open) == 0 {
		g.upto = offset
	}
}

// has tells whether an event was handled.
func (g *progress) has(offset string) bool {
	_, ok := g.seen[offset]
	return ok
}

// offered notes an event that has come. It reports false when that was handled already.
func (g *progress) offered(offset string) bool {
	if g.has(offset) {
		return false
	}
	for _, o := range g.open {
		if o == offset { // delivered again
			return true
		}
	}
	if len(g.open) < maxRemembered {
		g.open = append(g.open, offset)
	}
	return true
}

// handled notes that an event was.
func (g *progress) handled(offset string) {
	if g.seen == nil {
		g.seen = make(map[string]struct{})
	}
	if g.has(offset) {
		return
	}
	if len(g.list) == maxRemembered {
		delete(g.seen, g.list[0])
		g.list = g.list[1:]
	}
	g.seen[offset] = struct{}{}
	g.list = append(g.list, offset)
	for len(g.open) > 0 {
		if !g.has(g.open[0]) {
			return
		}
		g.upto = g.open[0]
		g.open = g.open[1:]
	}
}
