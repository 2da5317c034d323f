// Package event keeps what happened: a log written in the transaction that made it happen, and a hub that tells whoever waits. Its
// invariant: the stream is only a hint. Nothing is published that may roll back, and nothing is true only because it was published.
package event

import (
	"context"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Kinds of events that are not named after a status. Those of a transition are execution.<status>.
const (
	KindNote          = "execution.note"
	KindProgress      = "execution.progress"
	KindReleased      = "execution.released"       // the node took the call and will report later
	KindAttemptFailed = "execution.attempt_failed" // an attempt failed and another follows
	KindRedelivered   = "execution.redelivered"    // a replica of ours, or the instance of an idempotent function, was lost in the middle of a call
	KindAdopted       = "execution.adopted"        // a call inside an agent got the parent that was not known when it began
	KindRerouted      = "execution.rerouted"       // an instance failed an idempotent function, and the next one was asked
	KindLateReport    = "execution.late_report"    // an agent reported after the end; kept, changes nothing
	KindKept          = "execution.report_kept"    // an agent reported while its execution waited; applied with the decision
	KindApproval      = "approval.changed"         // a request for a decision was made, held, decided, expired or withdrawn
	KindNotice        = "execution.notice"         // what came of telling the agent something
	KindNode          = "node.changed"             // a node registered, stopped, failed or recovered
	KindDelivery      = "webhook.attempted"        // a webhook was tried
	KindLogged        = "execution.logged"         // the agent has logged something; a hint and no part of the history
)

// OfStatus is the kind of the event that a move to a status leaves behind.
func OfStatus(s models.Status) string { return "execution." + string(s) }

// Log appends events and publishes them once they are committed.
type Log struct {
	hub *Hub
}

// NewLog returns a log that publishes to hub.
func NewLog(hub *Hub) *Log { return &Log{hub: hub} }

const insertEvent = `INSERT INTO events (execution_id, run_id, node_id, kind, attempt, at, data) VALUES ($1, $2, $3, $4, $5, $6, $7)`

// insertEvents gives all rows of a batch to PostgreSQL in one statement.
const insertEvents = `INSERT INTO events (execution_id, run_id, node_id, kind, attempt, at, data)
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[], $7::text[]) RETURNING id`

// Append writes the events in tx, in order, and gives each its id. They are published after the commit.
func (l *Log) Append(ctx context.Context, tx *database.Tx, events ...*models.Event) error {
	if len(events) == 0 {
		return nil
	}
	var err error
	if tx.Postgres() {
		err = appendBatch(ctx, tx, events)
	} else {
		err = appendEach(ctx, tx, events)
	}
	if err != nil {
		return fmt.Errorf("append to the event log: %w", err)
	}
	tx.AfterCommit(func() { l.hub.Publish(events...) })
	return nil
}

func appendEach(ctx context.Context, tx *database.Tx, events []*models.Event) error {
	for _, e := range events {
		id, err := tx.Insert(ctx, insertEvent, e.ExecutionID, e.RunID, e.NodeID, e.Kind, e.Attempt, e.At, e.Data)
		if err != nil {
			return err
		}
		e.ID = id
	}
	return nil
}

func appendBatch(ctx context.Context, tx *database.Tx, events []*models.Event) error {
	n := len(events)
	executions, runs, data := make([]*string, n), make([]*string, n), make([]*string, n)
	nodes, kinds := make([]string, n), make([]string, n)
	attempts, at := make([]int32, n), make([]int64, n)
	for i, e := range events {
		executions[i], runs[i], data[i], nodes[i], kinds[i] = e.ExecutionID, e.RunID, e.Data, e.NodeID, e.Kind
		attempts[i], at[i] = int32(e.Attempt), e.At //nolint:gosec // attempts are few
	}
	rows, err := tx.Query(ctx, insertEvents, executions, runs, nodes, kinds, attempts, at, data)
	if err != nil {
		return err
	}
	defer rows.Close()
	for i := 0; rows.Next() && i < n; i++ {
		if err := rows.Scan(&events[i].ID); err != nil {
			return err
		}
	}
	return rows.Err()
}
