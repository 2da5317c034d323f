package agent

import (
	"context"
	"sync"
)

// slots bounds how many executions run at once; nil is no bound.
type slots chan struct{}

func newSlots(n int) slots {
	if n == 0 {
		return nil
	}
	return make(slots, n)
}

// slot is an execution's place among them. It is lent to others while the function waits for a call, so that functions that call each
// other cannot starve each other.
type slot struct {
	mu    sync.Mutex
	held  bool
	over  bool
	calls int
}

// begin waits for a place; false means that over came first.
func (s slots) begin(over <-chan struct{}, own *slot) bool {
	own.mu.Lock()
	defer own.mu.Unlock()
	return s.take(over, own)
}

func (s slots) end(own *slot) {
	own.mu.Lock()
	defer own.mu.Unlock()
	own.over = true
	s.give(own)
}

// lend gives the place away until back is called, which waits for a new one unless the execution is over.
func (s slots) lend(over <-chan struct{}, own *slot) (back func()) {
	own.mu.Lock()
	defer own.mu.Unlock()
	if own.calls++; own.calls == 1 {
		s.give(own)
	}
	return func() {
		own.mu.Lock()
		defer own.mu.Unlock()
		if own.calls--; own.calls == 0 && !own.over {
			s.take(over, own)
		}
	}
}

func (s slots) take(over <-chan struct{}, own *slot) bool {
	if s == nil {
		return true
	}
	select {
	case s <- struct{}{}:
		own.held = true
		return true
	case <-over:
		return false
	}
}

func (s slots) give(own *slot) {
	if own.held {
		own.held = false
		<-s
	}
}

// crew is a group of goroutines that somebody waits for with patience.
type crew struct {
	mu    sync.Mutex
	n     int
	empty chan struct{} // closed when the last one ends
}

// Go starts f as one of the crew.
func (c *crew) Go(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 {
		c.empty = make(chan struct{})
	}
	c.n++
	go func() {
		defer c.leave()
		f()
	}()
}

func (c *crew) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 {
		close(c.empty)
	}
}

// wait returns when nobody is left, or with ctx.
func (c *crew) wait(ctx context.Context) error {
	for {
		c.mu.Lock()
		n, empty := c.n, c.empty
		c.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-empty:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
