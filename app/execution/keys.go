package execution

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Concurrency keys. Executions of a node with the same key do not run beside each other, or only so many; they begin in the order they
// came. What has to wait is parked where no claim looks, and every end lets the next one into the queue, in its own transaction. From there
// on it holds the key until it ends, a retry and the time with a person included.

// Concurrency is what an execution may run beside.
type Concurrency struct {
	Key   string `json:"key"`             // up to 255 bytes, of the node's own making; empty: anything
	Limit int    `json:"limit,omitempty"` // 1 to 1000, by default 1: executions of the node with this key at once
}

const maxKeyLimit = 1000

// Check reports what is wrong with it, in a sentence for its author.
func (c Concurrency) Check() error {
	switch {
	case c.Key == "" || len(c.Key) > 255 || clean(c.Key) != c.Key:
		return errors.New("concurrency.key is a text of 1 to 255 bytes")
	case c.Limit < 0 || c.Limit > maxKeyLimit:
		return fmt.Errorf("concurrency.limit lies between 1 and %d", maxKeyLimit)
	}
	return nil
}

func (c Concurrency) on(row *models.Execution) {
	if c.Key == "" {
		return
	}
	limit := max(c.Limit, 1)
	row.ConcurrencyKey, row.KeyLimit = &c.Key, &limit
}

// concurrencyOf is what a row was submitted with.
func concurrencyOf(e *models.Execution) Concurrency {
	if e.ConcurrencyKey == nil {
		return Concurrency{}
	}
	return Concurrency{Key: *e.ConcurrencyKey, Limit: *e.KeyLimit}
}

// keys are those of a batch. They are taken in one order, so that no two transactions wait for each other.
type keys struct{ all []nodeKey }

type nodeKey struct{ node, key string }

// add notes the key that an ended execution gives up. One that was still parked never had it.
func (k *keys) add(e *models.Execution) {
	if e.ConcurrencyKey != nil && e.Parked != models.BehindKey {
		k.all = append(k.all, nodeKey{e.NodeID, *e.ConcurrencyKey})
	}
}

func (k *keys) inOrder() []nodeKey {
	slices.SortFunc(k.all, func(a, b nodeKey) int { return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.key, b.key)) })
	return slices.Compact(k.all)
}

const (
	ofKey     = ` FROM executions WHERE node_id = $1 AND concurrency_key = $2 AND concurrency_key IS NOT NULL AND ` + active
	holdKey   = `SELECT count(*)` + ofKey + ` AND parked < 2`
	behindKey = `SELECT 1` + ofKey + ` AND parked = 2 LIMIT 1`
	nextOfKey = `SELECT id, key_limit` + ofKey + ` AND parked = 2 ORDER BY created_at, id LIMIT 1`
	letIn     = `UPDATE executions SET parked = 0 WHERE id = $1 AND parked = 2 AND ` + active
)

// lockKey makes those wait who would count at the same moment. SQLite has one writer anyway.
func lockKey(ctx context.Context, tx *database.Tx, k nodeKey) error {
	if !tx.Postgres() {
		return nil
	}
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext('agentfield key ' || $1), hashtext($2))", k.node, k.key); err != nil {
		return fmt.Errorf("wait for a concurrency key: %w", err)
	}
	return nil
}

// letNext lets in what the ends of a batch have made room for.
func (k *keys) letNext(ctx context.Context, tx *database.Tx) error {
	for _, one := range k.inOrder() {
		if err := lockKey(ctx, tx, one); err != nil {
			return err
		}
		for more := true; more; {
			var err error
			if more, err = letOneIn(ctx, tx, one); err != nil {
				return fmt.Errorf("pass on the concurrency key of %s: %w", one.node, err)
			}
		}
	}
	return nil
}

func letOneIn(ctx context.Context, tx *database.Tx, k nodeKey) (bool, error) {
	next := nextOfKey
	if tx.Postgres() {
		next += " FOR UPDATE"
	}
	var id string
	var limit, holders int
	err := tx.QueryRow(ctx, next, []any{k.node, k.key}, &id, &limit)
	if errors.Is(err, database.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := tx.QueryRow(ctx, holdKey, []any{k.node, k.key}, &holders); err != nil || holders >= limit {
		return false, err
	}
	n, err := tx.Exec(ctx, letIn, id)
	return n == 1, err
}

// parkBehindKeys parks the new executions of a batch for which their keys have no room, those that come behind others first of all.
func parkBehindKeys(ctx context.Context, tx *database.Tx, items []*submission) error {
	var k keys
	for _, it := range items {
		it.row.Parked = models.NotParked
		k.add(it.row)
	}
	for _, one := range k.inOrder() {
		if err := lockKey(ctx, tx, one); err != nil {
			return err
		}
		var holders, behind int
		if err := tx.QueryRow(ctx, holdKey, []any{one.node, one.key}, &holders); err != nil {
			return fmt.Errorf("count the holders of a concurrency key: %w", err)
		}
		err := tx.QueryRow(ctx, behindKey, []any{one.node, one.key}, &behind)
		if err != nil && !errors.Is(err, database.ErrNoRows) {
			return fmt.Errorf("look who waits for a concurrency key: %w", err)
		}
		for _, it := range items {
			if r := it.row; r.NodeID == one.node && r.ConcurrencyKey != nil && *r.ConcurrencyKey == one.key {
				if behind > 0 || holders >= *r.KeyLimit {
					r.Parked, behind = models.BehindKey, 1
					continue
				}
				holders++
			}
		}
	}
	return nil
}
