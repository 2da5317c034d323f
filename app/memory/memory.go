// Package memory keeps values that agents share, by key, in the scope of a workflow, a session, an actor, or of everybody (wire.md 3.13).
// Its one invariant: a value belongs to the whole tuple of scope, id of the scope and key, and each write of it has a version of its own, so
// that a writer who names the version it has read overwrites nobody.
package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// What callers may be told.
var (
	ErrNotFound = errors.New("there is nothing under this key")
	ErrBadKey   = errors.New("a key must have between 1 and 1,024 bytes of text without control characters")
	ErrTooLarge = errors.New("a value may have 1 MiB: keep a part of it, or where it is")
	ErrConflict = errors.New("the value has another version by now: read it again")
)

const (
	maxKey   = 1024
	maxData  = 1 << 20
	maxItems = 1000    // of one page
	maxBytes = 4 << 20 // of one page
)

// The scopes, from the narrowest to the widest: the order in which a key is looked for.
const (
	Workflow = "workflow"
	Session  = "session"
	Actor    = "actor"
	Global   = "global"
)

// Scopes lists them in that order.
func Scopes() []string { return []string{Workflow, Session, Actor, Global} }

// Scope is where a value lives.
type Scope struct{ Kind, ID string }

// Any lets a write happen whatever is there; Absent only if there is nothing.
const (
	Any    int64 = -1
	Absent int64 = 0
)

// Service keeps the values.
type Service struct{ DB *database.DB }

// Get reads a value; ErrNotFound when there is none.
func (s *Service) Get(ctx context.Context, in Scope, key string) (models.Memory, error) {
	m := models.Memory{Scope: in.Kind, ScopeID: in.ID, Key: key}
	if err := check(key); err != nil {
		return m, err
	}
	err := s.DB.QueryRow(ctx, `SELECT data, version, node_id, created_at, updated_at FROM memories WHERE scope = $1 AND scope_id = $2 AND key = $3`,
		[]any{in.Kind, in.ID, key}, &m.Data, &m.Version, &m.NodeID, &m.CreatedAt, &m.UpdatedAt)
	if errors.Is(err, database.ErrNoRows) {
		return m, ErrNotFound
	}
	if err != nil {
		return m, fmt.Errorf("read a memory: %w", err)
	}
	return m, nil
}

// Find reads a key from the first of several scopes that has it.
func (s *Service) Find(ctx context.Context, in []Scope, key string) (models.Memory, error) {
	for _, scope := range in {
		if m, err := s.Get(ctx, scope, key); !errors.Is(err, ErrNotFound) {
			return m, err
		}
	}
	return models.Memory{}, ErrNotFound
}

// Set stores a JSON value if the one that is there has the expected version (or Any, or Absent), else ErrConflict.
func (s *Service) Set(ctx context.Context, in Scope, key, data, nodeID string, expected int64) (models.Memory, error) {
	m := models.Memory{Scope: in.Kind, ScopeID: in.ID, Key: key, Data: data}
	if err := check(key); err != nil {
		return m, err
	}
	if len(data) > maxData {
		return m, ErrTooLarge
	}
	if nodeID != "" {
		m.NodeID = &nodeID
	}
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		args := []any{in.Kind, in.ID, key, data, m.NodeID, s.DB.NowMs()}
		if expected != Any {
			args = append(args, expected)
		}
		return tx.QueryRow(ctx, write(expected), args, &m.Version, &m.CreatedAt, &m.UpdatedAt)
	})
	if errors.Is(err, database.ErrNoRows) {
		return m, ErrConflict
	}
	if err != nil {
		return m, fmt.Errorf("store a memory: %w", err)
	}
	return m, nil
}

// write is the statement for an expectation: it returns no row when that does not hold. The database decides between two writers.
func write(expected int64) string {
	const (
		insert = `INSERT INTO memories (scope, scope_id, key, data, version, node_id, created_at, updated_at) `
		values = `VALUES ($1, $2, $3, $4, 1, $5, $6, $6) ON CONFLICT (scope, scope_id, key) `
		change = `UPDATE SET data = excluded.data, version = memories.version + 1, node_id = excluded.node_id, updated_at = excluded.updated_at `
		answer = `RETURNING version, created_at, updated_at`
	)
	switch expected {
	case Any:
		return insert + values + "DO " + change + answer
	case Absent:
		// The version that is expected is 0, which no row has: the update never happens, and the parameter has its use.
		return insert + values + "DO " + change + "WHERE memories.version = $7 " + answer
	}
	return `UPDATE memories SET data = $4, version = version + 1, node_id = $5, updated_at = $6
		WHERE scope = $1 AND scope_id = $2 AND key = $3 AND version = $7 ` + answer
}

// Delete forgets a value, with the same expectation; one that is not there is forgotten already.
func (s *Service) Delete(ctx context.Context, in Scope, key string, expected int64) error {
	if err := check(key); err != nil {
		return err
	}
	gone := int64(0)
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		gone, err = tx.Exec(ctx, `DELETE FROM memories WHERE scope = $1 AND scope_id = $2 AND key = $3 AND ($4 = -1 OR version = $4)`,
			in.Kind, in.ID, key, expected)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete a memory: %w", err)
	}
	if gone > 0 || expected == Any {
		return nil
	}
	if _, err := s.Get(ctx, in, key); errors.Is(err, ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return ErrConflict
}

// List reads a page of a scope in the order of the keys, those after the given one.
func (s *Service) List(ctx context.Context, in Scope, after string) ([]models.Memory, error) {
	rows, err := s.DB.Query(ctx, `SELECT key, data, version, node_id, created_at, updated_at FROM memories
		WHERE scope = $1 AND scope_id = $2 AND key > $3 ORDER BY key LIMIT $4`, in.Kind, in.ID, after, maxItems)
	if err != nil {
		return nil, fmt.Errorf("list memories: %w", err)
	}
	defer rows.Close()
	page, size := []models.Memory{}, 0
	for size < maxBytes && rows.Next() {
		m := models.Memory{Scope: in.Kind, ScopeID: in.ID}
		if err := rows.Scan(&m.Key, &m.Data, &m.Version, &m.NodeID, &m.CreatedAt, &m.UpdatedAt); err != nil {
			return nil, fmt.Errorf("read a memory: %w", err)
		}
		page, size = append(page, m), size+len(m.Data)
	}
	return page, rows.Err()
}

func check(key string) error {
	control := func(r rune) bool { return r < 0x20 || r == 0x7f }
	if key == "" || len(key) > maxKey || !utf8.ValidString(key) || strings.ContainsFunc(key, control) {
		return ErrBadKey
	}
	return nil
}

// Known reports whether a word names a scope.
func Known(kind string) bool { return slices.Contains(Scopes(), kind) }
