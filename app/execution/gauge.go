package execution

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/agentfield/agentfield/app/database"
)

// gauge keeps an estimate of how many executions wait, per node and in all: what was counted last plus what was admitted since. While
// the estimate is below the limit a submission needs no counting; above it the submitting transaction counts exactly.
type gauge struct {
	mu        sync.Mutex
	total     int // limit of the server
	perNode   int // limit of one node
	counted   map[string]int
	admitted  map[string]int
	sum       int
	sumNew    int
	refusedAt map[string]time.Time // nodes that were exactly full a moment ago
	countedAt time.Time
	drained   map[string]float64 // executions per second that left the queue
	touched   bool
}

const refuseFor = 50 * time.Millisecond // a queue that was counted full is refused without counting again

func (g *gauge) limits(total, perNode int) {
	g.total, g.perNode = total, perNode
	g.counted, g.admitted, g.refusedAt, g.drained = map[string]int{}, map[string]int{}, map[string]time.Time{}, map[string]float64{}
}

// admit lets a submission through, asks for an exact count (watched), or refuses it.
func (g *gauge) admit(node string) (watched bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.touched = true
	if g.sum+g.sumNew >= g.total {
		if g.sum >= g.total {
			return false, &QueueFullError{Depth: g.sum, RetryAfter: g.wait(g.sum, g.total, g.rate())}
		}
		watched = true
	}
	if g.counted[node]+g.admitted[node] >= g.perNode {
		if time.Since(g.refusedAt[node]) < refuseFor {
			return false, g.fullLocked(node)
		}
		watched = true
	}
	g.admitted[node]++
	g.sumNew++
	return watched, nil
}

const countWaiting = `SELECT count(*) FROM (SELECT 1 FROM executions WHERE status = 'queued' AND node_id = $1 LIMIT $2) q`

const countPending = `SELECT count(*) FROM (SELECT 1 FROM executions WHERE status = 'pending' AND ` + active + ` AND node_id = $1 LIMIT $2) p`

// count tells how much room a node's queue has, exactly as this transaction sees it.
func (g *gauge) count(ctx context.Context, tx *database.Tx, node string) (room int, err error) {
	var queued, pending int
	if err := tx.QueryRow(ctx, countWaiting, []any{node, g.perNode}, &queued); err != nil {
		return 0, fmt.Errorf("count the queue of a node: %w", err)
	}
	if err := tx.QueryRow(ctx, countPending, []any{node, g.perNode}, &pending); err != nil {
		return 0, fmt.Errorf("count what is pending for a node: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counted[node], g.admitted[node] = queued+pending, 0
	room = g.perNode - queued - pending
	if room <= 0 {
		g.refusedAt[node] = time.Now()
	}
	return room, nil
}

func (g *gauge) full(node string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusedAt[node] = time.Now()
	return g.fullLocked(node)
}

func (g *gauge) fullLocked(node string) error {
	return &QueueFullError{Node: node, Depth: g.counted[node], RetryAfter: g.wait(g.counted[node], g.perNode, g.drained[node])}
}

// wait is how long it takes, at the present rate, until a tenth of the queue is free; 1 s to 60 s.
func (g *gauge) wait(depth, limit int, perSecond float64) time.Duration {
	if perSecond <= 0 {
		return 5 * time.Second
	}
	seconds := (float64(depth) - 0.9*float64(limit)) / perSecond
	return min(max(time.Duration(seconds*float64(time.Second)), time.Second), time.Minute)
}

func (g *gauge) rate() float64 {
	var sum float64
	for _, r := range g.drained {
		sum += r
	}
	return sum
}

// waiting is the estimate for one node and for all.
func (g *gauge) waiting(node string) (ofNode, all int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.counted[node] + g.admitted[node], g.sum + g.sumNew
}

// measure counts all queues, when something was submitted since or something waits.
func (s *Service) measure(ctx context.Context) (bool, error) {
	g := &s.gauge
	g.mu.Lock()
	idle := !g.touched && g.sum == 0 && !g.countedAt.IsZero()
	g.touched = false
	before := make(map[string]int, len(g.admitted))
	for node, n := range g.admitted {
		before[node] = n
	}
	g.mu.Unlock()
	if idle {
		return false, nil
	}
	counted, err := s.countQueues(ctx)
	if err != nil {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.renew(counted, before, time.Now())
	return false, nil
}

func (s *Service) countQueues(ctx context.Context) (map[string]int, error) {
	rows, err := s.DB.Query(ctx, `SELECT node_id, count(*) FROM executions WHERE status = 'queued' GROUP BY node_id
		UNION ALL SELECT node_id, count(*) FROM executions WHERE status = 'pending' AND `+active+` GROUP BY node_id`)
	if err != nil {
		return nil, fmt.Errorf("count the queues: %w", err)
	}
	defer rows.Close()
	counted := map[string]int{}
	for rows.Next() {
		var node string
		var n int
		if err := rows.Scan(&node, &n); err != nil {
			return nil, fmt.Errorf("count the queues: %w", err)
		}
		counted[node] += n
	}
	return counted, rows.Err()
}

func (g *gauge) renew(counted, before map[string]int, now time.Time) {
	passed := now.Sub(g.countedAt).Seconds()
	for node := range g.counted {
		if _, there := counted[node]; !there {
			counted[node] = 0
		}
	}
	sum := 0
	for node, n := range counted {
		sum += n
		if !g.countedAt.IsZero() && passed > 0 {
			left := max(float64(g.counted[node]+before[node]-n)/passed, 0)
			g.drained[node] = 0.7*g.drained[node] + 0.3*left
		}
	}
	for node, n := range before {
		g.admitted[node] = max(g.admitted[node]-n, 0)
		if g.admitted[node] == 0 {
			delete(g.admitted, node)
		}
	}
	g.sumNew = 0
	for _, n := range g.admitted {
		g.sumNew += n
	}
	for node, n := range counted {
		if n == 0 && g.drained[node] < 0.01 {
			delete(counted, node)
			delete(g.drained, node)
			delete(g.refusedAt, node)
		}
	}
	g.counted, g.sum, g.countedAt = counted, sum, now
}
