package node

import (
	"fmt"
	"time"
)

// A breaker keeps the calls of one function away from an instance that answers, so that no probe condemns it, and fails them one after
// the other. Each replica judges by its own calls. An open breaker lets one call pass every breakRest; the first that succeeds closes it.
// What the caller did wrong (4xx) counts for nothing, except that it closes an open breaker.
//
// Where another instance could take the calls, breakAfter failures in a row are enough. The only instance of a node is given up later:
// failures that lie in the input are common, and there is nobody to do better.
const (
	breakAfter = 5
	breakAlone = 20
	breakRest  = 10 * time.Second
)

// ErrCircuitOpen says that the instances which are left have failed their last calls. It passes by itself within ten seconds.
var ErrCircuitOpen = fmt.Errorf("every instance fails its calls and rests: %w", ErrNoInstance)

// breaker is part of a pulse and guarded by its lock.
type breaker struct {
	failures int   // in a row
	nextAt   int64 // ms: when the next call may try; 0: closed
}

func (b *breaker) open() bool { return b.nextAt > 0 }

// enter notes that a call goes to the instance: of an open breaker it is the one that may try.
func (b *breaker) enter(now int64) {
	if b.open() {
		b.nextAt = now + breakRest.Milliseconds()
	}
}

// score notes how a call went and reports whether that opened or closed the breaker. alone: no other instance could have had the call.
func (b *breaker) score(o Outcome, alone bool, now int64) (changed bool) {
	wasOpen := b.open()
	switch o {
	case HungUp:
	case OK:
		*b = breaker{}
	case AgentError:
		if wasOpen {
			*b = breaker{}
		}
	case Failed, Unreachable:
		b.failures++
		if wasOpen || b.failures >= breakAlone || !alone && b.failures >= breakAfter {
			b.nextAt = now + breakRest.Milliseconds()
		}
	}
	return b.open() != wasOpen
}

// breaker of a function; the caller holds the lock.
func (p *pulse) breakerOf(function string) *breaker {
	if p.breakers == nil {
		p.breakers = map[string]*breaker{}
	}
	if p.breakers[function] == nil {
		p.breakers[function] = &breaker{}
	}
	return p.breakers[function]
}

// admits reports whether the instance may be given a call of the function now.
func (i *Instance) admits(function string, now int64) bool {
	i.pulse.mu.Lock()
	defer i.pulse.mu.Unlock()
	b := i.pulse.breakers[function]
	return b == nil || b.nextAt <= now
}

func (i *Instance) enter(function string, now int64) {
	i.pulse.mu.Lock()
	defer i.pulse.mu.Unlock()
	i.pulse.breakerOf(function).enter(now)
}

// Resting lists the functions of an instance whose breaker is open in this replica, each with the time (ms) of its next try.
func (s *Service) Resting(instanceID string) map[string]int64 {
	held, ok := s.pulses.byID.Load(instanceID)
	if !ok {
		return nil
	}
	p := held.(*pulse)
	p.mu.Lock()
	defer p.mu.Unlock()
	resting := map[string]int64{}
	for function, b := range p.breakers {
		if b.open() {
			resting[function] = b.nextAt
		}
	}
	return resting
}

// judge lets the breaker hear how a call went.
func (c *Claimed) judge(o Outcome) {
	s, i := c.service, c.Instance
	i.pulse.mu.Lock()
	b := i.pulse.breakerOf(c.function)
	changed, open := b.score(o, c.alone, s.db.NowMs()), b.open()
	i.pulse.mu.Unlock()
	switch {
	case changed && open:
		s.log.Warn("a breaker is open: the instance failed its last calls", "node", i.NodeID, "function", c.function, "instance", i.ID, "url", i.BaseURL)
	case changed:
		s.log.Info("a breaker is closed: the instance succeeds again", "node", i.NodeID, "function", c.function, "instance", i.ID)
		s.o.OnAvailable(i.NodeID)
	}
}
