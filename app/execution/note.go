package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

// What an agent says about its work while it is at it: how far it is, what it has so far, and remarks.

// Progress stores how far an execution is: a fraction from 0 to 1, a sentence, and a partial result if there is one. The last one counts.
func (s *Service) Progress(ctx context.Context, id, token string, fraction *float64, message string, partial []byte) (*models.Execution, error) {
	if _, err := s.attemptOf(id, token); err != nil {
		return nil, err
	}
	ours, err := s.setProgress(ctx, id, fraction, clean(message), partial)
	if err != nil {
		return nil, err
	}
	row, err := s.Row(ctx, id)
	if err == nil && !ours {
		return nil, &StateError{ID: id, Status: row.Status, Wanted: "further along"}
	}
	return row, err
}

func (s *Service) setProgress(ctx context.Context, id string, fraction *float64, message string, partial []byte) (bool, error) {
	stored := s.newBody(partial)
	ours := false
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		ours = false
		e := &models.Event{ExecutionID: &id, Kind: event.KindProgress, At: s.DB.NowMs()}
		var run string
		err := tx.QueryRow(ctx, setProgress, []any{fraction, optional(message), id}, &run, &e.NodeID, &e.Attempt)
		if errors.Is(err, database.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		ours, e.RunID = true, &run
		data := map[string]any{}
		if fraction != nil {
			data["progress"] = *fraction
		}
		if message != "" {
			data["message"] = message
		}
		e.Data = asJSON(data)
		if stored != nil {
			if err := storePayloads(ctx, tx, []storedPayload{{id, models.PayloadPartial, stored}}); err != nil {
				return err
			}
		}
		full, err := s.fullOfNotes(ctx, tx, id)
		if err != nil || full {
			return err
		}
		return s.Events.Append(ctx, tx, e)
	})
	if err != nil {
		return false, fmt.Errorf("store the progress of %s: %w", id, err)
	}
	return ours, nil
}

// maxNotes bounds what one execution may note; beyond it Note answers ErrTooManyNotes, and progress is kept without its history.
const maxNotes = 5000

// ErrTooManyNotes says that the execution has as many notes as are kept.
var ErrTooManyNotes = fmt.Errorf("an execution keeps at most %d notes and progress reports", maxNotes)

// Note appends a remark of the agent to the execution's history.
func (s *Service) Note(ctx context.Context, id, token, message string, tags []string) (*models.Event, error) {
	if _, err := s.attemptOf(id, token); err != nil {
		return nil, err
	}
	row, err := s.Row(ctx, id)
	if err != nil {
		return nil, err
	}
	full, err := s.fullOfNotes(ctx, s.DB, id)
	if err != nil {
		return nil, err
	}
	if full {
		return nil, ErrTooManyNotes
	}
	data := map[string]any{"message": message}
	if len(tags) > 0 {
		data["tags"] = tags
	}
	e := s.eventOf(row, event.KindNote, data)
	return e, s.append(ctx, e)
}

// queries is what the database and a transaction have in common.
type queries interface {
	QueryRow(ctx context.Context, query string, args []any, dest ...any) error
}

// fullOfNotes reports whether an execution has as many notes and progress reports as are kept. What it logs is counted apart.
func (s *Service) fullOfNotes(ctx context.Context, in queries, id string) (bool, error) {
	var n int
	err := in.QueryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM events WHERE execution_id = $1 AND kind IN ('execution.note', 'execution.progress')
		LIMIT $2) n`, []any{id, maxNotes}, &n)
	if err != nil {
		return false, fmt.Errorf("count the notes of %s: %w", id, err)
	}
	return n >= maxNotes, nil
}

// Noted is a remark of the agent.
type Noted struct {
	Message string
	Tags    []string
	At      int64 // ms
}

// Notes lists the remarks about an execution, oldest first: those with any of the tags, or all.
func (s *Service) Notes(ctx context.Context, id string, tags []string) ([]Noted, error) {
	rows, err := s.DB.Query(ctx, "SELECT at, data FROM events WHERE execution_id = $1 AND kind = 'execution.note' ORDER BY id LIMIT $2", id, maxNotes)
	if err != nil {
		return nil, fmt.Errorf("read the notes of %s: %w", id, err)
	}
	defer rows.Close()
	var notes []Noted
	for rows.Next() {
		var data *string
		var n Noted
		if err := rows.Scan(&n.At, &data); err != nil {
			return nil, fmt.Errorf("read a note: %w", err)
		}
		var said struct {
			Message string   `json:"message"`
			Tags    []string `json:"tags"`
		}
		if data != nil && json.Unmarshal([]byte(*data), &said) == nil {
			n.Message, n.Tags = said.Message, said.Tags
		}
		if len(tags) == 0 || slices.ContainsFunc(n.Tags, func(tag string) bool { return slices.Contains(tags, tag) }) {
			notes = append(notes, n)
		}
	}
	return notes, rows.Err()
}
