package execution

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/agentfield/agentfield/app/database"
)

// gauge keeps an estimate of how many executions wait, in all, per node, and per function that has a limit of its own: what was counted
// last plus what was admitted since. While an estimate is below its limit a submission needs no counting; above it the submitting
// transaction counts exactly.
type gauge struct {
	mu        sync.Mutex
	queues    map[string]*queueGauge
	countedAt time.Time
	touched   bool
}

// queueGauge is the estimate of one queue.
type queueGauge struct {
	counted  int
	admitted int       // since it was counted
	underway int       // of those, not written yet: no count can have seen them
	flying   int       // admitted without counting and perhaps not committed yet: a count does not see them
	fullAt   time.Time // when it was counted full
	drained  float64   // executions per second that left it
}

const (
	allQueues = ""                    // the key of all queues together; no node has an empty name
	refuseFor = 50 * time.Millisecond // a queue that was counted full is refused without counting again
)

// bound is the most that may wait in one queue.
type bound struct {
	node, function string // the queue of a function, of a node, or, when both are empty, all of them
	limit          int
}

func (b bound) name() string {
	if b.function == "" {
		return b.node
	}
	return b.node + "." + b.function
}

// bounds are those that a submission has to keep.
func (s *Service) bounds(f Function) []bound {
	all := []bound{{limit: s.QueueDepth}, {node: f.NodeID, limit: cmp.Or(f.NodeDepth, s.NodeDepth)}}
	if f.Depth > 0 {
		all = append(all, bound{node: f.NodeID, function: f.Name, limit: f.Depth})
	}
	return all
}

func (g *gauge) queue(name string) *queueGauge {
	q := g.queues[name]
	if q == nil {
		if g.queues == nil {
			g.queues = map[string]*queueGauge{}
		}
		q = &queueGauge{}
		g.queues[name] = q
	}
	return q
}

// pass lets a submission through: watch are the queues to be counted exactly before it is written, fly those that need no counting.
type pass struct {
	watch    []bound
	fly, all []string
}

// admit lets a submission through, or refuses it. landed must be called when the submission has been written or not.
func (g *gauge) admit(bounds []bound) (pass, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.touched = true
	var p pass
	for _, b := range bounds {
		q := g.queue(b.name())
		switch {
		case q.counted+q.admitted < b.limit:
			p.fly = append(p.fly, b.name())
		case time.Since(q.fullAt) < refuseFor:
			return pass{}, g.full(b)
		default:
			p.watch = append(p.watch, b)
		}
		p.all = append(p.all, b.name())
	}
	for _, name := range p.all {
		q := g.queue(name)
		q.admitted++
		q.underway++
	}
	for _, name := range p.fly {
		g.queue(name).flying++
	}
	return p, nil
}

func (g *gauge) landed(p pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range p.all {
		g.queue(name).underway--
	}
	for _, name := range p.fly {
		g.queue(name).flying--
	}
}

// refuse is the error for a queue that was counted full.
func (g *gauge) refuse(b bound) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue(b.name()).fullAt = time.Now()
	return g.full(b)
}

func (g *gauge) full(b bound) error {
	q := g.queue(b.name())
	return &QueueFullError{Node: b.name(), Depth: q.counted, RetryAfter: q.wait(b.limit)}
}

// wait is how long it takes, at the present rate, until a tenth of the queue is free; 1 s to 60 s.
func (q *queueGauge) wait(limit int) time.Duration {
	if q.drained <= 0 {
		return 5 * time.Second
	}
	seconds := (float64(q.counted) - 0.9*float64(limit)) / q.drained
	return min(max(time.Duration(seconds*float64(time.Second)), time.Second), time.Minute)
}

// room tells how much a queue can still take, exactly as this transaction sees it.
func (g *gauge) room(ctx context.Context, tx *database.Tx, b bound) (int, error) {
	name := b.name()
	if err := lockQueue(ctx, tx, name); err != nil {
		return 0, err
	}
	g.mu.Lock()
	flying := g.queue(name).flying // before counting: what lands meanwhile is counted twice rather than not at all
	g.mu.Unlock()
	of, args := "", []any{b.limit}
	if b.node != "" {
		of, args = " AND node_id = $2", append(args, b.node)
	}
	if b.function != "" {
		of, args = of+" AND function = $3", append(args, b.function)
	}
	waiting := 0
	for _, status := range []string{"queued", "pending"} {
		var n int
		query := `SELECT count(*) FROM (SELECT 1 FROM executions WHERE status = '` + status + `' AND ` + active + of + ` LIMIT $1) q`
		if err := tx.QueryRow(ctx, query, args, &n); err != nil {
			return 0, fmt.Errorf("count a queue: %w", err)
		}
		waiting += n
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue(name).counted = waiting
	return b.limit - waiting - flying, nil
}

// lockQueue lets one replica at a time count a queue and add to it. SQLite has one writer anyway.
func lockQueue(ctx context.Context, tx *database.Tx, name string) error {
	if !tx.Postgres() {
		return nil
	}
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext('agentfield queue ' || $1))", name); err != nil {
		return fmt.Errorf("wait for a queue: %w", err)
	}
	return nil
}

// waiting is the estimate for one node, or for all.
func (g *gauge) waiting(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[name]
	if q == nil {
		return 0
	}
	return q.counted + q.admitted
}

// measure counts all queues, when something was submitted since or something waits.
func (s *Service) measure(ctx context.Context) (bool, error) {
	before, idle := s.gauge.snapshot()
	if idle {
		return false, nil
	}
	counted, err := s.countQueues(ctx)
	if err != nil {
		return false, err
	}
	s.gauge.renew(counted, before, time.Now())
	return false, nil
}

// snapshot is what was admitted and written until now: a count that begins later sees it.
func (g *gauge) snapshot() (admitted map[string]int, idle bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	idle = !g.touched && g.queue(allQueues).counted == 0 && !g.countedAt.IsZero()
	g.touched = false
	admitted = make(map[string]int, len(g.queues))
	for name, q := range g.queues {
		admitted[name] = max(q.admitted-q.underway, 0)
	}
	return admitted, idle
}

func (s *Service) countQueues(ctx context.Context) (map[string]int, error) {
	rows, err := s.DB.Query(ctx, `SELECT node_id, count(*), TRUE FROM executions WHERE status = 'queued' AND `+active+` GROUP BY node_id
		UNION ALL SELECT node_id, count(*), TRUE FROM executions WHERE status = 'pending' AND `+active+` GROUP BY node_id
		UNION ALL SELECT q.node_id || '.' || q.function, (SELECT count(*) FROM executions e WHERE e.status = 'queued' AND `+activeOf("e")+` AND e.node_id = q.node_id
			AND e.function = q.function) + (SELECT count(*) FROM executions e WHERE e.status = 'pending' AND `+activeOf("e")+` AND e.node_id = q.node_id
			AND e.function = q.function), FALSE FROM function_queues q WHERE q.max_depth > 0`)
	if err != nil {
		return nil, fmt.Errorf("count the queues: %w", err)
	}
	defer rows.Close()
	counted := map[string]int{allQueues: 0}
	for rows.Next() {
		var queue string
		var n int
		var whole bool
		if err := rows.Scan(&queue, &n, &whole); err != nil {
			return nil, fmt.Errorf("count the queues: %w", err)
		}
		counted[queue] += n
		if whole {
			counted[allQueues] += n
		}
	}
	return counted, rows.Err()
}

func (g *gauge) renew(counted, before map[string]int, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	passed := now.Sub(g.countedAt).Seconds()
	for name := range counted {
		g.queue(name)
	}
	for name, q := range g.queues {
		if !g.countedAt.IsZero() && passed > 0 {
			left := max(float64(q.counted+before[name]-counted[name])/passed, 0)
			q.drained = 0.7*q.drained + 0.3*left
		}
		q.counted, q.admitted = counted[name], max(q.admitted-before[name], 0)
	}
	maps.DeleteFunc(g.queues, func(name string, q *queueGauge) bool {
		return name != allQueues && q.counted+q.admitted+q.flying+q.underway == 0 && q.drained < 0.01
	})
	g.countedAt = now
}
