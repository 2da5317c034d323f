package execution

import (
	"context"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

const (
	sweepPage     = 500
	orphanedAfter = 60_000 // ms that an instance has been stopped before what it accepted is given up
)

// reap takes back what dead replicas were working on: calls they had open are dispatched again, notices sent again.
func (s *Service) reap(ctx context.Context) (bool, error) {
	if _, err := s.notices.Reap(ctx); err != nil {
		return false, err
	}
	if err := s.Replica.Bury(ctx); err != nil {
		return false, fmt.Errorf("forget replicas that are long gone: %w", err)
	}
	lost, err := s.rows(ctx, `SELECT `+executionColumns+` FROM executions WHERE lease_owner IS NOT NULL AND status = 'running' AND `+active+` AND NOT EXISTS
		(SELECT 1 FROM replicas r WHERE r.id = lease_owner AND r.expires_at > $1) ORDER BY id LIMIT $2`, s.DB.NowMs(), sweepPage)
	if err != nil {
		return false, fmt.Errorf("look for the work of dead replicas: %w", err)
	}
	if len(lost) == 0 {
		return false, s.takeUp(ctx)
	}
	return true, s.moveRows(ctx, lost, s.takenBack)
}

// takeUp finds executions that are ours by the record and in nobody's hand: the answer to the commit of their claim was lost, or their
// outcome could not be recorded. This replica lives, so their lease would never pass on by itself.
func (s *Service) takeUp(ctx context.Context) error {
	rows, err := s.DB.Query(ctx, `SELECT id FROM executions WHERE status = 'running' AND `+active+` AND lease_owner = $1`, s.Replica.ID())
	if err != nil {
		return fmt.Errorf("look for our own work: %w", err)
	}
	ids, err := collectIDs(rows)
	if err != nil {
		return fmt.Errorf("look for our own work: %w", err)
	}
	for _, id := range s.hand.Lost(ids) {
		e, err := s.Row(ctx, id)
		if err != nil {
			return err
		}
		if e.Status != models.Running || e.LeaseOwner == nil {
			continue
		}
		if err := s.moveRows(ctx, []*models.Execution{e}, s.takenBack); err != nil {
			return err
		}
	}
	return nil
}

func collectIDs(rows database.Rows) (ids []string, err error) {
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// takenBack is the move of an execution whose call was lost on our side.
func (s *Service) takenBack(e *models.Execution) *move {
	m := &move{id: e.ID, from: []models.Status{models.Running}, attempt: e.Attempt, owner: *e.LeaseOwner}
	s.interrupted(m, &claimed{Execution: e}, parsePolicy(e.RetryPolicy))
	m.after = s.RedeliveryBackoff.Delay(e.Redeliveries + 1)
	s.counters.reaped.Add(1)
	return m
}

// sweepDeadlines ends what has passed its limit, whoever works on it.
func (s *Service) sweepDeadlines(ctx context.Context) (bool, error) {
	late, err := s.rows(ctx, `SELECT `+executionColumns+` FROM executions WHERE `+active+`
		AND deadline_at <= $1 LIMIT $2`, s.DB.NowMs(), sweepPage)
	if err != nil {
		return false, fmt.Errorf("look for executions past their limit: %w", err)
	}
	var next *int64
	if err := s.DB.QueryRow(ctx, "SELECT min(deadline_at) FROM executions WHERE "+active+" AND deadline_at > $1", []any{s.DB.NowMs()}, &next); err != nil {
		return false, fmt.Errorf("look for the next limit: %w", err)
	}
	if next != nil {
		s.deadlines.DueIn(msDuration(*next - s.DB.NowMs()))
	}
	return len(late) == sweepPage, s.moveRows(ctx, late, func(e *models.Execution) *move {
		limit := *e.DeadlineAt - e.CreatedAt
		if e.TimeoutMs != nil {
			limit = *e.TimeoutMs
		}
		return &move{
			id: e.ID, from: []models.Status{e.Status}, to: models.Timeout, attempt: e.Attempt, failure: timedOut(msDuration(limit)),
			reason: "agent_timeout", notify: e.Status == models.Running,
		}
	})
}

// sweepPending moves work between pending and queued as the health of its node changes; hints do it sooner.
func (s *Service) sweepPending(ctx context.Context) (bool, error) {
	for _, q := range []struct {
		has, becomes models.Status
		usable       bool
	}{{models.Pending, models.Queued, true}, {models.Queued, models.Pending, false}} {
		nodes, err := s.nodesWith(ctx, q.has)
		if err != nil {
			return false, err
		}
		for _, node := range nodes {
			if s.Nodes.Usable(node) != q.usable {
				continue
			}
			if err := s.moveQueue(ctx, node, q.has, q.becomes); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// NodeAvailable queues what was pending for a node that can be used again. The word of it may be older than another: it is asked.
func (s *Service) NodeAvailable(ctx context.Context, node string) error {
	if !s.Nodes.Usable(node) {
		return nil
	}
	return s.moveQueue(ctx, node, models.Pending, models.Queued)
}

func (s *Service) moveQueue(ctx context.Context, node string, from, to models.Status) error {
	waits := ""
	if to == models.Pending {
		waits = " AND mode = 'async'" // a sync call does not wait for an instance: it is tried, and fails (ruling C6)
	}
	for {
		// The literal status lets the partial index serve the query.
		rows, err := s.rows(ctx, `SELECT `+executionColumns+` FROM executions WHERE status = '`+string(from)+`' AND `+active+waits+`
			AND node_id = $1 ORDER BY created_at, id LIMIT $2`, node, sweepPage)
		if err != nil {
			return fmt.Errorf("read the queue of %s: %w", node, err)
		}
		if len(rows) == 0 {
			return nil
		}
		reason := ""
		if to == models.Pending {
			reason = "no healthy instance of " + node
		}
		if err := s.moveRows(ctx, rows, func(e *models.Execution) *move {
			return &move{id: e.ID, from: []models.Status{from}, to: to, attempt: e.Attempt, reason: reason}
		}); err != nil {
			return err
		}
		if len(rows) < sweepPage {
			return nil
		}
	}
}

// InstanceLost ends what an instance had accepted (202) and cannot report any more (wire.md B38), or puts it back: when the request asked
// for another attempt, or when the function may see the same execution twice.
func (s *Service) InstanceLost(ctx context.Context, instance, reason string) error {
	rows, err := s.rows(ctx, `SELECT `+executionColumns+` FROM executions WHERE status = 'running' AND `+active+` AND lease_owner IS NULL
		AND instance_id = $1 LIMIT $2`, instance, 10*sweepPage)
	if err != nil {
		return fmt.Errorf("look for the work of a lost instance: %w", err)
	}
	return s.moveRows(ctx, rows, func(e *models.Execution) *move {
		m := &move{id: e.ID, from: []models.Status{models.Running}, attempt: e.Attempt, failures: 1, reason: reason}
		m.failure = &failure{
			code: "instance_lost", category: "agent_unreachable", class: onUnreachable,
			message: "the instance that had accepted the call is gone: send the request again if it may be repeated",
		}
		policy := parsePolicy(e.RetryPolicy)
		f, err := s.Nodes.Lookup(ctx, e.NodeID, e.Function)
		m.to = models.Failed
		switch {
		case err == nil && f.Idempotent && e.Redeliveries < s.MaxRedeliveries:
			m.to, m.kind, m.after = models.Queued, event.KindRedelivered, s.RedeliveryBackoff.Delay(e.Redeliveries+1)
			m.failure, m.failures, m.redeliveries = nil, 0, 1
		case policy.retries(onUnreachable, e.Failures+1):
			m.to, m.kind, m.after = models.Queued, event.KindAttemptFailed, policy.delay(e.Failures+1)
		}
		return m
	})
}

// sweepOrphans settles what was accepted by instances that are gone, should the word of their end have been lost in a crash.
func (s *Service) sweepOrphans(ctx context.Context) (bool, error) {
	rows, err := s.DB.Query(ctx, `SELECT DISTINCT e.instance_id FROM executions e WHERE e.status = 'running' AND `+activeOf("e")+` AND e.lease_owner IS NULL
		AND e.instance_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = e.instance_id AND (i.lifecycle <> 'offline'
		OR i.stopped_at IS NULL OR i.stopped_at > $1)) LIMIT 100`, s.DB.NowMs()-orphanedAfter)
	if err != nil {
		return false, fmt.Errorf("look for the work of instances that are gone: %w", err)
	}
	var gone []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			rows.Close()
			return false, fmt.Errorf("read an instance id: %w", err)
		}
		gone = append(gone, id)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("look for the work of instances that are gone: %w", err)
	}
	for _, id := range gone {
		if err := s.InstanceLost(ctx, id, "agent_restart_orphaned: the instance has been gone for a while"); err != nil {
			return false, err
		}
	}
	return false, nil
}

// moveRows makes one move for each row, in one transaction per page. Rows that have moved on meanwhile are left alone.
func (s *Service) moveRows(ctx context.Context, rows []*models.Execution, asMove func(*models.Execution) *move) error {
	if len(rows) == 0 {
		return nil
	}
	moves := make([]*move, len(rows))
	for i, e := range rows {
		moves[i] = asMove(e)
	}
	err := s.DB.Tx(ctx, func(tx *database.Tx) error { return s.moveAll(ctx, tx, moves) })
	if err != nil {
		return fmt.Errorf("move %d executions: %w", len(moves), err)
	}
	return nil
}

// nodesWith lists the nodes that have executions in a status, by hopping over its partial index.
func (s *Service) nodesWith(ctx context.Context, status models.Status) ([]string, error) {
	from := "FROM executions WHERE status = '" + string(status) + "' AND " + active
	rows, err := s.DB.Query(ctx, `WITH RECURSIVE r(n) AS (SELECT (SELECT node_id `+from+` ORDER BY node_id LIMIT 1)
		UNION ALL SELECT (SELECT node_id `+from+` AND node_id > r.n ORDER BY node_id LIMIT 1) FROM r WHERE r.n IS NOT NULL)
		SELECT n FROM r WHERE n IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("list nodes with %s work: %w", status, err)
	}
	defer rows.Close()
	var nodes []string
	for rows.Next() {
		var node string
		if err := rows.Scan(&node); err != nil {
			return nil, fmt.Errorf("list nodes with %s work: %w", status, err)
		}
		nodes = append(nodes, node)
	}
	return nodes, rows.Err()
}

const keysKept = 24 * 60 * 60 * 1000 // ms that an idempotency key is remembered

// expireKeys forgets idempotency keys after a day, in small batches.
func (s *Service) expireKeys(ctx context.Context) (bool, error) {
	var n int64
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		n, err = tx.Exec(ctx, `DELETE FROM idempotency_keys WHERE (scope, key) IN
			(SELECT scope, key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT 200)`, s.DB.NowMs()-keysKept)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("forget old idempotency keys: %w", err)
	}
	return n == 200, nil
}
