// Package desk keeps what belongs to one person and decides nothing: what they have typed and not sent, and how far they have seen what
// happens to an object. Its invariant: nobody reads or changes what lies on the desk of another.
package desk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

// Kinds of objects.
const (
	Execution = "execution"
	Run       = "run"
	Rerun     = "rerun" // the edited input of an execution that is to be repeated
	Try       = "try"   // the input with which a function is to be tried
)

const (
	maxDraft = 2 << 20             // bytes of a text that is kept
	kept     = 90 * 24 * time.Hour // since it was last touched
	page     = 500
)

// ErrDraftTooLong says that a text is not kept.
var ErrDraftTooLong = errors.New("the text is too long to be kept: send it, or keep it elsewhere")

// Desk is everybody's.
type Desk struct {
	db   *database.DB
	loop *lease.Loop
}

// New makes the desk; Start sets its sweep going.
func New(db *database.DB, log *slog.Logger) *Desk {
	d := &Desk{db: db}
	d.loop = &lease.Loop{Name: "desk", Every: time.Hour, Do: d.sweep, Log: log}
	return d
}

// Start begins to clear away what nobody has touched for long.
func (d *Desk) Start() { d.loop.Start() }

// Stop ends the sweep.
func (d *Desk) Stop() { d.loop.Stop() }

// Loops are the background loops, for supervision.
func (d *Desk) Loops() []*lease.Loop { return []*lease.Loop{d.loop} }

// SaveDraft keeps what a person has typed; an empty text forgets it.
func (d *Desk) SaveDraft(ctx context.Context, owner, kind, id, text string) error {
	if len(text) > maxDraft {
		return ErrDraftTooLong
	}
	err := d.db.Tx(ctx, func(tx *database.Tx) error {
		if text == "" {
			_, err := tx.Exec(ctx, "DELETE FROM drafts WHERE owner = $1 AND kind = $2 AND object_id = $3", owner, kind, id)
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO drafts (owner, kind, object_id, text, updated_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (owner, kind, object_id) DO UPDATE SET text = excluded.text, updated_at = excluded.updated_at`, owner, kind, id, text, d.db.NowMs())
		return err
	})
	if err != nil {
		return fmt.Errorf("keep a draft: %w", err)
	}
	return nil
}

// Draft is what a person has typed and not sent; nil when nothing.
func (d *Desk) Draft(ctx context.Context, owner, kind, id string) (*models.Draft, error) {
	draft := &models.Draft{Owner: owner, Kind: kind, ObjectID: id}
	err := d.db.QueryRow(ctx, "SELECT text, updated_at FROM drafts WHERE owner = $1 AND kind = $2 AND object_id = $3", []any{owner, kind, id},
		&draft.Text, &draft.UpdatedAt)
	if errors.Is(err, database.ErrNoRows) {
		return nil, nil //nolint:nilnil // no draft is the ordinary case
	}
	if err != nil {
		return nil, fmt.Errorf("read a draft: %w", err)
	}
	return draft, nil
}

// See notes that a person has had everything up to an event before their eyes, and returns what was noted before; nil when they have never
// looked. Nothing is taken back: of two tabs the one that knows more counts.
func (d *Desk) See(ctx context.Context, owner, kind, id string, eventID int64) (before *models.LastSeen, err error) {
	err = d.db.Tx(ctx, func(tx *database.Tx) error {
		seen := models.LastSeen{Owner: owner, Kind: kind, ObjectID: id}
		before = nil
		err := tx.QueryRow(ctx, "SELECT event_id, seen_at FROM last_seen WHERE owner = $1 AND kind = $2 AND object_id = $3", []any{owner, kind, id},
			&seen.EventID, &seen.SeenAt)
		if err == nil {
			before = &seen
		} else if !errors.Is(err, database.ErrNoRows) {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO last_seen (owner, kind, object_id, event_id, seen_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (owner, kind, object_id) DO UPDATE SET seen_at = excluded.seen_at,
			event_id = CASE WHEN last_seen.event_id > excluded.event_id THEN last_seen.event_id ELSE excluded.event_id END`, owner, kind, id, eventID, d.db.NowMs())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("note what has been seen of %s: %w", id, err)
	}
	return before, nil
}

// sweep clears away what nobody has touched for long.
func (d *Desk) sweep(ctx context.Context) (bool, error) {
	before := d.db.Now().Add(-kept).UnixMilli()
	var n, m int64
	err := d.db.Tx(ctx, func(tx *database.Tx) (err error) {
		n, err = tx.Exec(ctx, `DELETE FROM last_seen WHERE (owner, kind, object_id) IN
			(SELECT owner, kind, object_id FROM last_seen WHERE seen_at < $1 ORDER BY seen_at LIMIT $2)`, before, page)
		if err != nil {
			return err
		}
		m, err = tx.Exec(ctx, `DELETE FROM drafts WHERE (owner, kind, object_id) IN
			(SELECT owner, kind, object_id FROM drafts WHERE updated_at < $1 LIMIT $2)`, before, page)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("clear the desks: %w", err)
	}
	return n == page || m == page, nil
}
