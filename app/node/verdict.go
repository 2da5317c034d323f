package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/lease"
)

// pulse is what this process has seen of one instance. It outlives the entries that are read from the database.
type pulse struct {
	inFlight atomic.Int64

	mu       sync.Mutex
	misses   int    // not reached, in a row
	verdict  string // Active or Inactive, until it is written
	reason   string
	doubted  bool                // something went wrong that a probe should look at
	vouched  bool                // back because of a heartbeat alone; calls and probes have not confirmed it
	failures int                 // bad probes in a row
	nextAt   int64               // of the next probe, ms; 0: not planned
	beatAt   int64               // of the last heartbeat that was written, ms
	probedAt int64               // of the last probe, ms
	breakers map[string]*breaker // by function
}

func (p *pulse) verdictNow() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.verdict
}

// reset forgets what was seen: the instance has registered again.
func (p *pulse) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.misses, p.verdict, p.reason, p.doubted, p.vouched, p.failures, p.nextAt, p.beatAt, p.probedAt = 0, "", "", false, false, 0, 0, 0, 0
	p.breakers = nil
}

// pulses finds them by instance id, and collects the verdicts that are not written yet.
type pulses struct {
	byID sync.Map

	mu      sync.Mutex
	pending map[string]*Instance
}

func (p *pulses) of(id string) *pulse {
	if held, ok := p.byID.Load(id); ok {
		return held.(*pulse)
	}
	held, _ := p.byID.LoadOrStore(id, &pulse{})
	return held.(*pulse)
}

// inFlight counts the calls of this process, without making a pulse for an instance that it has nothing to do with.
func (p *pulses) inFlight(id string) int64 {
	if held, ok := p.byID.Load(id); ok {
		return held.(*pulse).inFlight.Load()
	}
	return 0
}

// forget drops the instances that a newer entry does not have any more.
func (p *pulses) forget(previous, current *entry) {
	if previous == nil {
		return
	}
	for _, i := range previous.instances {
		if current.instance(i.ID) == nil {
			p.byID.Delete(i.ID)
		}
	}
}

func (p *pulses) put(i *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending[i.ID] = i
}

func (p *pulses) take() []*Instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := make([]*Instance, 0, len(p.pending))
	for _, i := range p.pending {
		taken = append(taken, i)
	}
	clear(p.pending)
	return taken
}

// answered takes note of a proof of life: a call or a probe got an answer.
func (s *Service) answered(i *Instance) {
	p := i.pulse
	p.mu.Lock()
	p.misses, p.failures, p.doubted, p.vouched, p.nextAt = 0, 0, false, false, 0
	known := i.row.Health
	if p.verdict != "" {
		known = p.verdict
	}
	news := i.row.Lifecycle != Offline && (known == Inactive || known == Unknown || i.row.Lifecycle == Starting) &&
		p.verdict != Active
	if news {
		p.verdict, p.reason = Active, ""
	}
	p.mu.Unlock()
	if news {
		s.pronounce(i)
	}
}

// missed takes note that an instance was not reached. Enough of these in a row take it out of rotation; a serverless one stays, since its
// address belongs to a platform that starts it on demand.
func (s *Service) missed(i *Instance, reason string) {
	if i.Serverless {
		return
	}
	p := i.pulse
	now := s.db.NowMs()
	p.mu.Lock()
	p.misses++
	news := p.misses >= s.o.Failures && p.verdict != Inactive && (i.row.Health != Inactive || p.verdict == Active)
	if news {
		p.verdict, p.reason, p.failures, p.nextAt = Inactive, reason, 0, now+time.Second.Milliseconds()
	}
	planned := p.plan(now)
	p.mu.Unlock()
	if news {
		s.log.Warn("an instance is out of rotation", "node", i.NodeID, "instance", i.ID, "url", i.BaseURL, "reason", reason)
		s.pronounce(i)
	}
	if news || planned {
		s.probeLoop.Wake()
	}
}

// doubt asks for a look at the instance.
func (s *Service) doubt(i *Instance) {
	if i.Serverless {
		return
	}
	i.pulse.mu.Lock()
	planned := i.pulse.plan(s.db.NowMs())
	i.pulse.mu.Unlock()
	if planned {
		s.probeLoop.Wake()
	}
}

// plan has the instance probed in a second, unless a probe is planned already.
func (p *pulse) plan(now int64) (planned bool) {
	p.doubted = true
	if p.nextAt > 0 {
		return false
	}
	p.nextAt = now + time.Second.Milliseconds()
	return true
}

func (p *pulse) probed(now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probedAt = now
}

// postpone plans the probe after a bad one.
func (p *pulse) postpone(now int64, every time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures++
	p.nextAt = now + lease.Backoff{First: time.Second, Max: every}.Delay(p.failures).Milliseconds()
}

func (s *Service) pronounce(i *Instance) {
	s.pulses.put(i)
	s.verdictLoop.Wake()
}

// writeVerdicts stores what calls and probes have shown: one row per change, never one per call.
func (s *Service) writeVerdicts(ctx context.Context) (bool, error) {
	var failed error
	for _, i := range s.pulses.take() {
		if err := s.writeVerdict(ctx, i); err != nil {
			s.pulses.put(i)
			failed = err
		}
	}
	return false, failed
}

func (s *Service) writeVerdict(ctx context.Context, i *Instance) error {
	i.pulse.mu.Lock()
	verdict, reason := i.pulse.verdict, i.pulse.reason
	i.pulse.mu.Unlock()
	if verdict == "" {
		return nil
	}
	altered, err := s.alter(ctx, i.NodeID, func(tx *database.Tx) (*change, error) {
		return s.settleVerdict(ctx, tx, i, verdict, reason)
	})
	if err != nil {
		return err
	}
	if !altered {
		s.invalidate(i.NodeID) // somebody else has decided: read what
	}
	if _, _, err := s.entry(ctx, i.NodeID); err != nil && !errors.Is(err, ErrUnknownNode) {
		return err
	}
	i.pulse.written(verdict)
	if verdict == Active {
		s.o.OnAvailable(i.NodeID)
	}
	return nil
}

// written ends the precedence of a verdict over the row, unless there is a newer one.
func (p *pulse) written(verdict string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verdict == verdict {
		p.verdict, p.reason = "", ""
	}
}

// settleVerdict changes the row only from what the verdict contradicts, so that replicas that see the same write it once. An instance that
// said itself that it stops is left alone.
func (s *Service) settleVerdict(ctx context.Context, tx *database.Tx, i *Instance, verdict, reason string) (*change, error) {
	now := s.db.NowMs()
	var rows int64
	var err error
	c := &change{InstanceID: i.ID, BaseURL: i.BaseURL, Health: verdict, Reason: reason}
	if verdict == Active {
		c.Change = "recovered"
		if i.row.Health == Unknown {
			c.Change = "answered"
		}
		rows, err = tx.Exec(ctx, `UPDATE instances SET health = CASE WHEN health = 'degraded' THEN health ELSE 'active' END, health_reason = NULL,
			lifecycle = CASE WHEN lifecycle = 'starting' THEN 'ready' ELSE lifecycle END, heartbeat_at = $2, stopped_at = NULL
			WHERE id = $1 AND lifecycle <> 'offline' AND (health IN ('inactive', 'unknown') OR lifecycle = 'starting')`, i.ID, now)
	} else {
		c.Change = "unreachable"
		rows, err = tx.Exec(ctx, `UPDATE instances SET health = 'inactive', health_reason = $2, stopped_at = $3
			WHERE id = $1 AND lifecycle <> 'offline' AND health <> 'inactive'`, i.ID, reason, now)
	}
	if err != nil || rows == 0 {
		return nil, err
	}
	return c, nil
}
