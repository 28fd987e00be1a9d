package engineio

import "sync"

// tasks counts the goroutines of a server, so that Close can wait for them. Unlike a bare WaitGroup it may be asked for
// another one at any time, and refuses once it was closed.
type tasks struct {
	group  sync.WaitGroup
	mu     sync.Mutex
	closed bool
}

// begin must come before the go statement, and done at the goroutine's end.
func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.group.Add(1)
	return true
}

func (t *tasks) done() { t.group.Done() }

func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
}

func (t *tasks) wait() { t.group.Wait() }
