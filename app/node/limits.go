package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
)

// ErrBadLimit says that a limit cannot be.
var ErrBadLimit = errors.New("limits lie between 0 (none of its own) and 1,000,000")

const maxLimit = 1_000_000

// Limits of a node or of a function. Zero: none of its own.
type Limits struct {
	MaxConcurrency int `json:"max_concurrency"` // executions that it works on at once
	MaxDepth       int `json:"max_depth"`       // executions that may wait for it
	MaxPerMinute   int `json:"max_per_minute"`  // executions that begin, with a second's worth at once
}

func (l Limits) check() error {
	for _, n := range []int{l.MaxConcurrency, l.MaxDepth, l.MaxPerMinute} {
		if n < 0 || n > maxLimit {
			return ErrBadLimit
		}
	}
	return nil
}

// AllLimits are those of a node and of those of its functions that have any.
type AllLimits struct {
	Limits
	Functions map[string]Limits `json:"functions,omitempty"`
}

// Of is what is in force for a function by itself, or for the node when function is empty.
func (l AllLimits) Of(function string) Limits {
	if function == "" {
		return l.Limits
	}
	return l.Functions[function]
}

// Limits reads those that are in force.
func (s *Service) Limits(ctx context.Context, nodeID string) (AllLimits, error) {
	var l AllLimits
	err := s.db.QueryRow(ctx, "SELECT max_concurrency, max_depth, max_per_minute FROM node_queues WHERE node_id = $1", []any{nodeID},
		&l.MaxConcurrency, &l.MaxDepth, &l.MaxPerMinute)
	if errors.Is(err, database.ErrNoRows) {
		return l, ErrUnknownNode
	}
	if err != nil {
		return l, fmt.Errorf("read the limits of %s: %w", nodeID, err)
	}
	rows, err := s.db.Query(ctx, "SELECT function, max_concurrency, max_depth, max_per_minute FROM function_queues WHERE node_id = $1", nodeID)
	if err != nil {
		return l, fmt.Errorf("read the limits of %s: %w", nodeID, err)
	}
	defer rows.Close()
	for rows.Next() {
		var function string
		var own Limits
		if err := rows.Scan(&function, &own.MaxConcurrency, &own.MaxDepth, &own.MaxPerMinute); err != nil {
			return l, fmt.Errorf("read the limits of %s: %w", nodeID, err)
		}
		if l.Functions == nil {
			l.Functions = map[string]Limits{}
		}
		l.Functions[function] = own
	}
	return l, rows.Err()
}

// SetLimits changes those of a node, or of one of its functions, at once and on every replica. What an agent declares when it registers
// again does not undo it.
func (s *Service) SetLimits(ctx context.Context, who audit.Origin, nodeID, function string, want Limits) error {
	if err := want.check(); err != nil {
		return err
	}
	object := nodeID
	if function != "" {
		if _, err := s.Lookup(ctx, nodeID, function); err != nil {
			return err
		}
		object += "." + function
	}
	return s.operate(ctx, nodeID, func(tx *database.Tx) (*change, error) {
		was, err := limitsOf(ctx, tx, nodeID, function)
		if err != nil || was == want {
			return nil, err
		}
		if err := writeLimits(ctx, tx, nodeID, function, want); err != nil {
			return nil, err
		}
		return &change{Change: "limited"}, s.entryOf(ctx, tx, who, "node.limited", object, was, want)
	})
}

func limitsOf(ctx context.Context, tx *database.Tx, nodeID, function string) (was Limits, err error) {
	query, args := "SELECT max_concurrency, max_depth, max_per_minute FROM node_queues WHERE node_id = $1", []any{nodeID}
	if function != "" {
		query, args = "SELECT max_concurrency, max_depth, max_per_minute FROM function_queues WHERE node_id = $1 AND function = $2", []any{nodeID, function}
	}
	err = tx.QueryRow(ctx, query, args, &was.MaxConcurrency, &was.MaxDepth, &was.MaxPerMinute)
	if function != "" && errors.Is(err, database.ErrNoRows) {
		err = nil
	}
	return was, err
}

// writeLimits also begins the rate anew. A function without limits has no row.
func writeLimits(ctx context.Context, tx *database.Tx, nodeID, function string, l Limits) error {
	var err error
	switch {
	case function == "":
		_, err = tx.Exec(ctx, "UPDATE node_queues SET max_concurrency = $1, max_depth = $2, max_per_minute = $3, open_at = 0 WHERE node_id = $4",
			l.MaxConcurrency, l.MaxDepth, l.MaxPerMinute, nodeID)
	case l == Limits{}:
		_, err = tx.Exec(ctx, "DELETE FROM function_queues WHERE node_id = $1 AND function = $2", nodeID, function)
	default:
		_, err = tx.Exec(ctx, `INSERT INTO function_queues (node_id, function, max_concurrency, max_depth, max_per_minute, open_at) VALUES ($1, $2, $3, $4, $5, 0)
			ON CONFLICT (node_id, function) DO UPDATE SET max_concurrency = excluded.max_concurrency, max_depth = excluded.max_depth,
			max_per_minute = excluded.max_per_minute, open_at = 0`, nodeID, function, l.MaxConcurrency, l.MaxDepth, l.MaxPerMinute)
	}
	return err
}
