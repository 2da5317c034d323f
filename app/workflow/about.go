package workflow

import (
	"context"
	"fmt"

	"github.com/agentfield/agentfield/models"
)

// Note is what an agent remarked.
type Note struct {
	At   int64  // ms
	Data string // JSON with message and tags
}

// Notes are those of one execution: the newest of them, oldest first, and how many there are in all.
type Notes struct {
	Newest []Note
	Total  int
}

const (
	notesShown = 20      // of one execution, in a picture of its run
	notesRead  = 100_000 // of one run
)

// selectNotes follows the index events_notes, whose condition it names word for word.
const selectNotes = `SELECT execution_id, at, data FROM events WHERE run_id = $1 AND kind = 'execution.note' ORDER BY execution_id, id LIMIT $2`

// Notes reads the notes of a run by execution.
func (s *Service) Notes(ctx context.Context, runID string) (map[string]Notes, error) {
	rows, err := s.DB.Query(ctx, selectNotes, runID, notesRead)
	if err != nil {
		return nil, fmt.Errorf("read the notes of the run %q: %w", runID, err)
	}
	defer rows.Close()
	found := map[string]Notes{}
	for rows.Next() {
		var id string
		var note Note
		if err := rows.Scan(&id, &note.At, &note.Data); err != nil {
			return nil, fmt.Errorf("read a note of the run %q: %w", runID, err)
		}
		notes := found[id]
		notes.Total++
		if notes.Newest = append(notes.Newest, note); len(notes.Newest) > notesShown {
			notes.Newest = notes.Newest[1:]
		}
		found[id] = notes
	}
	return found, rows.Err()
}

// Delivery is how far a webhook of an execution has come.
type Delivery struct {
	ExecutionID string
	Event       string
	Status      string
	Attempt     int
	LastStatus  *int
	LastError   *string
}

const selectDeliveries = `SELECT d.execution_id, d.event, d.status, d.attempt, d.last_status, d.last_error
	FROM executions x JOIN webhook_deliveries d ON d.execution_id = x.id WHERE x.run_id = $1 AND x.has_webhook ORDER BY d.created_at, d.id LIMIT 50000`

// Deliveries reads how far the webhooks of a run have come; none at all if nobody registered one.
func (s *Service) Deliveries(ctx context.Context, runID string, steps []models.Step) ([]Delivery, error) {
	if !registered(steps) {
		return nil, nil
	}
	rows, err := s.DB.Query(ctx, selectDeliveries, runID)
	if err != nil {
		return nil, fmt.Errorf("read the webhooks of the run %q: %w", runID, err)
	}
	defer rows.Close()
	var list []Delivery
	for rows.Next() {
		var d Delivery
		if err := rows.Scan(&d.ExecutionID, &d.Event, &d.Status, &d.Attempt, &d.LastStatus, &d.LastError); err != nil {
			return nil, fmt.Errorf("read a webhook of the run %q: %w", runID, err)
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

func registered(steps []models.Step) bool {
	for i := range steps {
		if steps[i].HasWebhook {
			return true
		}
	}
	return false
}

// Asked is the last request for a decision that an execution made.
type Asked struct{ RequestID, URL, Status string }

const selectAsked = `SELECT x.id, a.request_id, a.url, a.status FROM executions x JOIN approvals a ON a.execution_id = x.id AND a.round = x.rounds
	WHERE x.run_id = $1 AND x.rounds > 0 LIMIT 10000`

// Asked reads the last requests for decisions by execution; none at all if nobody asked.
func (s *Service) Asked(ctx context.Context, runID string, steps []models.Step) (map[string]Asked, error) {
	if !interrupted(steps) {
		return nil, nil
	}
	rows, err := s.DB.Query(ctx, selectAsked, runID)
	if err != nil {
		return nil, fmt.Errorf("read the approvals of the run %q: %w", runID, err)
	}
	defer rows.Close()
	found := map[string]Asked{}
	for rows.Next() {
		var id string
		var a Asked
		if err := rows.Scan(&id, &a.RequestID, &a.URL, &a.Status); err != nil {
			return nil, fmt.Errorf("read an approval of the run %q: %w", runID, err)
		}
		found[id] = a
	}
	return found, rows.Err()
}

const selectSince = `SELECT e.id, e.execution_id, e.run_id, e.node_id, e.kind, e.attempt, e.at, e.data
	FROM executions x JOIN events e ON e.execution_id = x.id WHERE x.run_id = $1 AND e.id > $2 ORDER BY e.id LIMIT $3`

// Since reads what has happened in a run after an event, oldest first; complete is false when there is more than limit.
func (s *Service) Since(ctx context.Context, runID string, after int64, limit int) (events []models.Event, complete bool, err error) {
	return s.since(ctx, selectSince, runID, after, limit)
}

const selectSinceOfOne = `SELECT e.id, e.execution_id, e.run_id, e.node_id, e.kind, e.attempt, e.at, e.data
	FROM events e WHERE e.execution_id = $1 AND e.id > $2 ORDER BY e.id LIMIT $3`

// SinceOfOne is Since for a single execution.
func (s *Service) SinceOfOne(ctx context.Context, executionID string, after int64, limit int) (events []models.Event, complete bool, err error) {
	return s.since(ctx, selectSinceOfOne, executionID, after, limit)
}

func (s *Service) since(ctx context.Context, query, id string, after int64, limit int) ([]models.Event, bool, error) {
	rows, err := s.DB.Query(ctx, query, id, after, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("read what has happened to %q: %w", id, err)
	}
	defer rows.Close()
	var events []models.Event
	for rows.Next() {
		var e models.Event
		if err := rows.Scan(&e.ID, &e.ExecutionID, &e.RunID, &e.NodeID, &e.Kind, &e.Attempt, &e.At, &e.Data); err != nil {
			return nil, false, fmt.Errorf("read an event of %q: %w", id, err)
		}
		events = append(events, e)
	}
	if len(events) > limit {
		return events[:limit], false, rows.Err()
	}
	return events, true, rows.Err()
}
