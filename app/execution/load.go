package execution

import (
	"context"
	"fmt"
	"slices"

	"github.com/agentfield/agentfield/models"
)

// Load is what a node has to do. Each count stops at LoadLimit+1.
type Load struct{ Queued, Running, Waiting, Failed int }

// LoadLimit is the largest count that is exact.
const LoadLimit = 1000

// Loads counts for each node what is queued or pending, running and waiting, and what has failed or timed out since an instant (ms).
// One query, along the indexes, whatever the length of the queues.
func (s *Service) Loads(ctx context.Context, nodes []string, since int64) (map[string]Load, error) {
	count := func(where string) string {
		return fmt.Sprintf("(SELECT count(*) FROM (SELECT 1 FROM executions e WHERE e.node_id = n.value AND %s LIMIT %d) c)", where, LoadLimit+1)
	}
	ofStatus := func(status models.Status) string {
		return count("e.status = '" + string(status) + "' AND " + activeOf("e"))
	}
	columns := ofStatus(models.Queued) + " + " + ofStatus(models.Pending) + ", " + ofStatus(models.Running) + ", " + ofStatus(models.Waiting) + ", " +
		count("e.created_at >= $2 AND e.finished_at IS NOT NULL AND e.status <> 'succeeded' AND e.status <> 'cancelled'")
	from, list := "json_each($1) n", any(jsonList(nodes))
	if s.DB.Postgres() {
		from, list = "unnest($1::text[]) n(value)", nodes
	}
	rows, err := s.DB.Query(ctx, "SELECT n.value, "+columns+" FROM "+from, list, since)
	if err != nil {
		return nil, fmt.Errorf("count what nodes have to do: %w", err)
	}
	defer rows.Close()
	loads := make(map[string]Load, len(nodes))
	for rows.Next() {
		var node string
		var l Load
		if err := rows.Scan(&node, &l.Queued, &l.Running, &l.Waiting, &l.Failed); err != nil {
			return nil, fmt.Errorf("count what nodes have to do: %w", err)
		}
		loads[node] = l
	}
	return loads, rows.Err()
}

// Timing says how long the newest executions of a node took that succeeded.
type Timing struct {
	P50, P95 int64 // ms
	Of       int   // executions
}

const timed = 200

// TimingOf measures the newest executions of a node.
func (s *Service) TimingOf(ctx context.Context, node string) (Timing, error) {
	rows, err := s.DB.Query(ctx, `SELECT finished_at - coalesce(started_at, created_at) FROM executions
		WHERE node_id = $1 AND status = 'succeeded' ORDER BY created_at DESC, id DESC LIMIT $2`, node, timed)
	if err != nil {
		return Timing{}, fmt.Errorf("time the executions of %s: %w", node, err)
	}
	defer rows.Close()
	var took []int64
	for rows.Next() {
		var ms int64
		if err := rows.Scan(&ms); err != nil {
			return Timing{}, fmt.Errorf("time the executions of %s: %w", node, err)
		}
		took = append(took, ms)
	}
	if len(took) == 0 {
		return Timing{}, rows.Err()
	}
	slices.Sort(took)
	return Timing{P50: took[len(took)/2], P95: took[len(took)*95/100], Of: len(took)}, rows.Err()
}
