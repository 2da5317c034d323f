package webhook

import (
	"context"
	"sync"
	"time"
)

// hosts keeps one receiver from taking the slots of all others. A receiver that answers quickly may use three quarters of them; one
// that is slow, or not known yet, a quarter. What does not fit waits a moment in its slot, in case a place becomes free; with a slow
// receiver it is put back into the queue, for the time when the receiver will probably have room.
type hosts struct {
	quickCap, slowCap int
	patience          time.Duration // how long a delivery waits for a place while its receiver is not known to be slow
	mu                sync.Mutex
	byName            map[string]*host
}

type host struct {
	inFlight int
	quick    bool          // its last answer came quickly
	slow     bool          // its last answer did not, or a delivery waited for a place in vain
	lasts    time.Duration // the last exchange
	waiting  []chan struct{}
	nextRoom time.Time // when the next delivery that is put back should come again
}

const (
	quickAnswer  = time.Second
	patience     = 250 * time.Millisecond
	minPutBack   = time.Second
	maxPutBack   = time.Minute
	forgetBeyond = 1024 // receivers of which nothing is in flight
)

func newHosts(slots int) *hosts {
	return &hosts{quickCap: max(slots*3/4, 1), slowCap: max(slots/4, 1), patience: patience, byName: map[string]*host{}}
}

// enter takes a place at the receiver. Without one, later says in how long to try again. leave must be called with how the exchange
// went.
func (h *hosts) enter(ctx context.Context, name string) (ok bool, later time.Duration) {
	place := h.take(name)
	if place == nil {
		return true, 0
	}
	if place.free == nil {
		return false, place.later
	}
	timer := time.NewTimer(h.patience)
	defer timer.Stop()
	select {
	case <-place.free:
		return true, 0
	case <-timer.C:
	case <-ctx.Done():
	}
	return h.giveUp(name, place.free)
}

// wait is what take returns when there is no place: a channel to wait on, or the time to come back.
type wait struct {
	free  chan struct{}
	later time.Duration
}

func (h *hosts) take(name string) *wait {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.receiver(name)
	switch {
	case r.inFlight < h.capOf(r):
		r.inFlight++
		return nil
	case r.slow:
		return &wait{later: h.putBack(r)}
	}
	free := make(chan struct{})
	r.waiting = append(r.waiting, free)
	return &wait{free: free}
}

func (h *hosts) giveUp(name string, free chan struct{}) (ok bool, later time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.receiver(name)
	for i, w := range r.waiting {
		if w == free {
			r.waiting = append(r.waiting[:i], r.waiting[i+1:]...)
			r.slow, r.quick = true, false
			return false, h.putBack(r)
		}
	}
	return true, 0 // the place came at the last moment
}

// leave gives the place back, with the time that the exchange took and whether the receiver seems well.
func (h *hosts) leave(name string, took time.Duration, well bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.receiver(name)
	r.inFlight--
	r.lasts = took
	r.quick = well && took < quickAnswer
	r.slow = !r.quick
	if r.quick {
		r.nextRoom = time.Time{}
	}
	for len(r.waiting) > 0 && r.inFlight < h.capOf(r) {
		close(r.waiting[0])
		r.waiting = r.waiting[1:]
		r.inFlight++
	}
	if r.inFlight == 0 && len(r.waiting) == 0 && (r.quick || len(h.byName) > forgetBeyond) {
		delete(h.byName, name)
	}
}

func (h *hosts) receiver(name string) *host {
	r := h.byName[name]
	if r == nil {
		r = &host{}
		h.byName[name] = r
	}
	return r
}

func (h *hosts) capOf(r *host) int {
	if r.quick {
		return h.quickCap
	}
	return h.slowCap
}

// putBack spreads what waits for a slow receiver over the time that the receiver needs for it.
func (h *hosts) putBack(r *host) time.Duration {
	now := time.Now()
	pace := max(r.lasts, minPutBack) / time.Duration(h.slowCap)
	if earliest := now.Add(minPutBack); r.nextRoom.Before(earliest) {
		r.nextRoom = earliest
	}
	later := r.nextRoom.Sub(now)
	r.nextRoom = r.nextRoom.Add(pace)
	if later > maxPutBack {
		r.nextRoom = now.Add(maxPutBack / 2) // what lies beyond is spread over the second half of the longest time
		later = maxPutBack
	}
	return later
}
