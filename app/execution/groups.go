package execution

import (
	"context"
	"fmt"
)

// Failures are the executions that failed for the same reason: the same error but for its numbers, ids and quoted words, at the same target.
type Failures struct {
	Group            string // fp_…
	NodeID, Function string
	Count            int    // since the instant asked for
	First            int64  // ms, of all that there are
	Last             int64  // ms
	Message          string // of one of them
	Code             string
}

// GroupLimit bounds how many failures are looked at for their groups, the latest first.
const GroupLimit = 10_000

// FailureGroups are the groups of failures since an instant (ms), the largest first, at most limit; cut reports that older failures were
// not looked at.
func (s *Service) FailureGroups(ctx context.Context, since int64, limit int) (groups []Failures, cut bool, err error) {
	rows, err := s.DB.Query(ctx, `WITH latest AS (SELECT error_group, node_id, function, created_at, id FROM executions
			WHERE `+unhappy+` AND error_group IS NOT NULL AND created_at >= $1 ORDER BY created_at DESC, id DESC LIMIT $2),
		groups AS (SELECT error_group, node_id, function, count(*) AS n, max(created_at) AS last, max(id) AS id, (SELECT count(*) FROM latest) AS seen
			FROM latest GROUP BY error_group, node_id, function ORDER BY n DESC, last DESC LIMIT $3)
		SELECT g.error_group, g.node_id, g.function, g.n, g.last, g.seen, coalesce(e.error_message, ''), coalesce(e.error_code, ''),
			(SELECT min(f.created_at) FROM executions f WHERE f.error_group = g.error_group AND f.node_id = g.node_id AND f.function = g.function)
		FROM groups g JOIN executions e ON e.id = g.id ORDER BY g.n DESC, g.last DESC`, since, GroupLimit, limit)
	if err != nil {
		return nil, false, fmt.Errorf("group the failures: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var f Failures
		var seen int
		if err := rows.Scan(&f.Group, &f.NodeID, &f.Function, &f.Count, &f.Last, &seen, &f.Message, &f.Code, &f.First); err != nil {
			return nil, false, fmt.Errorf("read a group of failures: %w", err)
		}
		cut = seen >= GroupLimit
		groups = append(groups, f)
	}
	return groups, cut, rows.Err()
}
