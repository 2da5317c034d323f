package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

// change is what an event about a node says.
type change struct {
	Change     string `json:"change"` // registered, restarted, stopped, unreachable, recovered, status
	InstanceID string `json:"instance_id"`
	BaseURL    string `json:"base_url,omitempty"`
	Version    string `json:"version,omitempty"`
	Lifecycle  string `json:"lifecycle,omitempty"`
	Health     string `json:"health,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Replaces   string `json:"replaces,omitempty"` // the instance that ran at this address before
	Functions  int    `json:"functions,omitempty"`
}

// alter runs apply while it holds the node, and records what it returns; nil means that there was nothing to change. Whoever changes a
// node or one of its rows takes the node first, so that two never wait for each other.
func (s *Service) alter(ctx context.Context, nodeID string, apply func(tx *database.Tx) (*change, error)) (altered bool, err error) {
	err = s.db.Tx(ctx, func(tx *database.Tx) error {
		altered = false
		known, err := hold(ctx, tx, nodeID)
		if err != nil || !known {
			return err
		}
		done, err := apply(tx)
		if err != nil || done == nil {
			return err
		}
		altered = true
		return s.record(ctx, tx, nodeID, done)
	})
	if err != nil {
		return false, fmt.Errorf("change node %s: %w", nodeID, err)
	}
	return altered, nil
}

// hold locks the row of the node until the transaction ends. SQLite has one writer and needs no lock.
func hold(ctx context.Context, tx *database.Tx, nodeID string) (bool, error) {
	query := "SELECT 1 FROM nodes WHERE id = $1"
	if tx.Postgres() {
		query += " FOR UPDATE"
	}
	var one int
	err := tx.QueryRow(ctx, query, []any{nodeID}, &one)
	if errors.Is(err, database.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// record raises the version of the node, appends the event and drops what memory holds once all of it is committed.
func (s *Service) record(ctx context.Context, tx *database.Tx, nodeID string, c *change) error {
	now := s.db.NowMs()
	if _, err := tx.Exec(ctx, `UPDATE nodes SET updated_at = CASE WHEN updated_at < $2 THEN $2 ELSE updated_at + 1 END WHERE id = $1`,
		nodeID, now); err != nil {
		return err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	text := string(data)
	tx.AfterCommit(func() { s.invalidate(nodeID) })
	return s.o.Events.Append(ctx, tx, &models.Event{NodeID: nodeID, Kind: event.KindNode, At: now, Data: &text})
}
