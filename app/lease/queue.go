package lease

import (
	"context"
	"fmt"
	"time"

	"github.com/agentfield/agentfield/app/database"
)

// Queue leases the rows of one table with the columns of models.Lease and an id. Executions, which have caps and fairness besides,
// claim with statements of their own.
type Queue struct {
	db      *database.DB
	replica *Replica

	claim, reap, due string
	settle           string
	ours, putBack    string
	hand             Hand
}

// Claimed is a row held by this replica in one attempt. Owner and Attempt fence every later word about it.
type Claimed struct {
	ID          string
	Attempt     int // this one included
	MaxAttempts int
	Owner       string

	hand *Hand
}

// ended is called by the worker when the run is over.
func (c Claimed) ended() {
	if c.hand != nil {
		c.hand.Drop(c.ID)
	}
}

// NewQueue renders the statements for a table; the name is one of our own, never input.
func NewQueue(db *database.DB, replica *Replica, table string) *Queue {
	skip := ""
	if db.Postgres() {
		skip = " FOR UPDATE SKIP LOCKED"
	}
	return &Queue{
		db: db, replica: replica,
		claim: `WITH due AS (SELECT id FROM ` + table + ` WHERE status = 'queued' AND available_at <= $1 ORDER BY available_at, id LIMIT $2` + skip + `)
			UPDATE ` + table + ` SET status = 'running', attempt = attempt + 1, lease_owner = $3 WHERE id IN (SELECT id FROM due) AND status = 'queued'
			AND EXISTS (SELECT 1 FROM replicas r WHERE r.id = $3 AND r.expires_at > $1)
			RETURNING id, attempt, max_attempts`,
		settle: `UPDATE ` + table + ` SET status = $1, available_at = $2, lease_owner = NULL
			WHERE id = $3 AND status = 'running' AND lease_owner = $4 AND attempt = $5`,
		// An attempt that only our own death interrupted does not count.
		reap: `WITH lost AS (SELECT id FROM ` + table + ` WHERE lease_owner IS NOT NULL AND status = 'running' AND NOT EXISTS
			(SELECT 1 FROM replicas r WHERE r.id = lease_owner AND r.expires_at > $1) LIMIT 1000` + skip + `)
			UPDATE ` + table + ` SET status = 'queued', available_at = $1, attempt = attempt - 1, lease_owner = NULL WHERE id IN (SELECT id FROM lost)`,
		ours: `SELECT id FROM ` + table + ` WHERE lease_owner = $1 AND status = 'running'`,
		putBack: `UPDATE ` + table + ` SET status = 'queued', available_at = $1, attempt = attempt - 1, lease_owner = NULL
			WHERE id = $2 AND status = 'running' AND lease_owner = $3`,
		due: `SELECT min(available_at) FROM ` + table + ` WHERE status = 'queued'`,
	}
}

// Claim takes up to n due rows.
func (q *Queue) Claim(ctx context.Context, n int) ([]Claimed, error) {
	owner := q.replica.ID()
	var claimed []Claimed
	err := q.db.Tx(ctx, func(tx *database.Tx) error {
		claimed = nil
		rows, err := tx.Query(ctx, q.claim, q.db.NowMs(), n, owner)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			c := Claimed{Owner: owner, hand: &q.hand}
			if err := rows.Scan(&c.ID, &c.Attempt, &c.MaxAttempts); err != nil {
				return err
			}
			claimed = append(claimed, c)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("claim leased work: %w", err)
	}
	for _, c := range claimed {
		q.hand.Take(c.ID)
	}
	return claimed, nil
}

// Settle moves a claimed row to another status, in tx. It reports false, and has changed nothing, when the row is no longer ours.
func (q *Queue) Settle(ctx context.Context, tx *database.Tx, c Claimed, status string, availableAt int64) (bool, error) {
	n, err := tx.Exec(ctx, q.settle, status, availableAt, c.ID, c.Owner, c.Attempt)
	return n == 1, err
}

// Reap puts back the rows of replicas that have died, and those of ours that nobody works on, and tells how many there were.
func (q *Queue) Reap(ctx context.Context) (int64, error) {
	var n int64
	err := q.db.Tx(ctx, func(tx *database.Tx) (err error) {
		n, err = tx.Exec(ctx, q.reap, q.db.NowMs())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("take back the work of dead replicas: %w", err)
	}
	lost, err := q.takeUp(ctx)
	return n + lost, err
}

// takeUp puts back what is ours by the record and not in hand.
func (q *Queue) takeUp(ctx context.Context) (int64, error) {
	owner := q.replica.ID()
	rows, err := q.db.Query(ctx, q.ours, owner)
	if err != nil {
		return 0, fmt.Errorf("look for our own leased work: %w", err)
	}
	defer rows.Close()
	var ours []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return 0, fmt.Errorf("look for our own leased work: %w", err)
		}
		ours = append(ours, id)
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("look for our own leased work: %w", err)
	}
	rows.Close()
	var n int64
	for _, id := range q.hand.Lost(ours) {
		err := q.db.Tx(ctx, func(tx *database.Tx) error {
			_, err := tx.Exec(ctx, q.putBack, q.db.NowMs(), id, owner)
			return err
		})
		if err != nil {
			return n, fmt.Errorf("take up lost work of our own: %w", err)
		}
		n++
	}
	return n, nil
}

// NextDue tells in how long the next row is due.
func (q *Queue) NextDue(ctx context.Context) (time.Duration, bool, error) {
	var at *int64
	if err := q.db.QueryRow(ctx, q.due, nil, &at); err != nil {
		return 0, false, fmt.Errorf("look for the next due row: %w", err)
	}
	if at == nil {
		return 0, false, nil
	}
	return max(time.Duration(*at-q.db.NowMs())*time.Millisecond, 0), true, nil
}
