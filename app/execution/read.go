package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

func msDuration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// Row reads an execution without its payloads; ErrNotFound when there is none.
func (s *Service) Row(ctx context.Context, id string) (*models.Execution, error) {
	rows, err := s.rows(ctx, `SELECT `+executionColumns+` FROM executions WHERE id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("read an execution: %w", err)
	}
	if len(rows) == 0 {
		return nil, ErrNotFound
	}
	return rows[0], nil
}

// Get reads an execution with what it has led to.
func (s *Service) Get(ctx context.Context, id string) (Finished, error) {
	found, err := s.GetMany(ctx, []string{id})
	if err != nil {
		return Finished{}, err
	}
	f, ok := found[id]
	if !ok {
		return Finished{}, ErrNotFound
	}
	return f, nil
}

// Standing is where an execution stands, for those who follow many at once.
type Standing struct {
	Status   models.Status
	Run      string
	Workflow string // the run as its callers know it
}

// Standings reads where executions stand. Ids that do not exist are missing in the answer.
func (s *Service) Standings(ctx context.Context, ids []string) (map[string]Standing, error) {
	rows, err := s.queryIDs(ctx, "SELECT id, status, run_id, coalesce(workflow_id, run_id) FROM executions WHERE id IN (%s)", ids)
	if err != nil {
		return nil, fmt.Errorf("read where executions stand: %w", err)
	}
	defer rows.Close()
	found := make(map[string]Standing, len(ids))
	for rows.Next() {
		var id string
		var at Standing
		if err := rows.Scan(&id, &at.Status, &at.Run, &at.Workflow); err != nil {
			return nil, fmt.Errorf("read where an execution stands: %w", err)
		}
		found[id] = at
	}
	return found, rows.Err()
}

// GetMany reads up to 1,000 executions with their results in one query. Ids that do not exist are missing in the answer.
func (s *Service) GetMany(ctx context.Context, ids []string) (map[string]Finished, error) {
	rows, err := s.queryIDs(ctx, `SELECT `+qualified(executionColumns, "e")+`, p.encoding, p.body FROM executions e
		LEFT JOIN execution_payloads p ON p.execution_id = e.id AND p.kind = CASE e.status WHEN 'failed' THEN 2 WHEN 'succeeded' THEN 1 ELSE 3 END WHERE e.id IN (%s)`, ids)
	if err != nil {
		return nil, fmt.Errorf("read executions: %w", err)
	}
	defer rows.Close()
	found := make(map[string]Finished, len(ids))
	for rows.Next() {
		f, err := s.scanFinished(rows)
		if err != nil {
			return nil, err
		}
		found[f.Row.ID] = f
	}
	return found, rows.Err()
}

// extraRows lets scanExecution read the columns of a wider row.
type extraRows struct {
	database.Rows
	extra []any
}

func (r extraRows) Scan(dest ...any) error { return r.Rows.Scan(append(dest, r.extra...)...) }

// scanFinished reads a row with its body: the result, what a failed one said besides its error, or what there is of a result so far.
func (s *Service) scanFinished(rows database.Rows) (Finished, error) {
	var encoding *int16
	var stored []byte
	e, err := scanExecution(extraRows{rows, []any{&encoding, &stored}})
	if err != nil {
		return Finished{}, fmt.Errorf("read an execution: %w", err)
	}
	f := Finished{Row: e}
	if encoding == nil {
		return f, nil
	}
	body, err := s.Codec.Decode(*encoding, stored)
	if err != nil {
		return f, fmt.Errorf("read the outcome of %s: %w", e.ID, err)
	}
	switch e.Status { //nolint:exhaustive // the others have no outcome of their own
	case models.Failed:
		f.Details = body
	case models.Succeeded:
		f.Result = body
	default:
		f.Partial = body
	}
	return f, nil
}

// queryIDs runs a query about a list of ids; %s in it stands for the list.
func (s *Service) queryIDs(ctx context.Context, query string, ids []string) (database.Rows, error) {
	if s.DB.Postgres() {
		return s.DB.Query(ctx, fmt.Sprintf(query, "SELECT unnest($1::text[])"), ids)
	}
	return s.DB.Query(ctx, fmt.Sprintf(query, "SELECT value FROM json_each($1)"), jsonList(ids))
}

func jsonList(ids []string) string {
	list, err := json.Marshal(ids)
	if err != nil { // strings always marshal
		return "[]"
	}
	return string(list)
}

func (s *Service) rows(ctx context.Context, query string, args ...any) ([]*models.Execution, error) {
	rows, err := s.DB.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return collect(rows, nil)
}

// Payload reads one body; database.ErrNoRows when there is none.
func (s *Service) Payload(ctx context.Context, id string, kind models.PayloadKind) ([]byte, error) {
	var encoding int16
	var stored []byte
	err := s.DB.QueryRow(ctx, "SELECT encoding, body FROM execution_payloads WHERE execution_id = $1 AND kind = $2", []any{id, int16(kind)}, &encoding, &stored)
	if err != nil {
		return nil, err
	}
	return s.Codec.Decode(encoding, stored)
}

// PayloadOrNil is Payload for readers to whom a missing body is an ordinary answer.
func (s *Service) PayloadOrNil(ctx context.Context, id string, kind models.PayloadKind) ([]byte, error) {
	body, err := s.Payload(ctx, id, kind)
	if errors.Is(err, database.ErrNoRows) {
		return nil, nil
	}
	return body, err
}

func (s *Service) inputs(ctx context.Context, of []*models.Execution) (map[string][]byte, error) {
	ids := make([]string, len(of))
	for i, e := range of {
		ids[i] = e.ID
	}
	rows, err := s.queryIDs(ctx, "SELECT execution_id, encoding, body FROM execution_payloads WHERE kind = 0 AND execution_id IN (%s)", ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	inputs := make(map[string][]byte, len(of))
	for rows.Next() {
		var id string
		var encoding int16
		var stored []byte
		if err := rows.Scan(&id, &encoding, &stored); err != nil {
			return nil, err
		}
		if inputs[id], err = s.Codec.Decode(encoding, stored); err != nil {
			return nil, err
		}
	}
	return inputs, rows.Err()
}

// History lists the events of an execution after the event with the given id, oldest first, at most limit.
func (s *Service) History(ctx context.Context, id string, after int64, limit int) ([]models.Event, error) {
	rows, err := s.DB.Query(ctx, `SELECT id, execution_id, run_id, node_id, kind, attempt, at, data FROM events
		WHERE execution_id = $1 AND id > $2 AND kind <> 'execution.logged' ORDER BY id LIMIT $3`, id, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the history of an execution: %w", err)
	}
	defer rows.Close()
	var history []models.Event
	for rows.Next() {
		var e models.Event
		if err := rows.Scan(&e.ID, &e.ExecutionID, &e.RunID, &e.NodeID, &e.Kind, &e.Attempt, &e.At, &e.Data); err != nil {
			return nil, fmt.Errorf("read an event: %w", err)
		}
		history = append(history, e)
	}
	return history, rows.Err()
}
