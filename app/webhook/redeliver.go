package webhook

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
)

var (
	// ErrNoDelivery says that there is nothing to send again: no webhook was registered, or the execution has not ended.
	ErrNoDelivery = errors.New("this execution has no webhook delivery: none was registered, or it has not ended yet")
	// ErrInFlight says that an attempt is on its way at this moment.
	ErrInFlight = errors.New("an attempt is on its way: look at its outcome first")
	// ErrHeld says that there is nothing to send now, because the host is paused.
	ErrHeld = errors.New("it waits for its host, which is paused: resume the host, and it is sent")
	// ErrTooMany says that too much was asked for at once.
	ErrTooMany = fmt.Errorf("at most %d webhooks can be sent again or stopped at once", RedeliverLimit)
)

// RedeliverLimit is how many deliveries one act sends again.
const RedeliverLimit = 1000

// recordedIDs is how many ids an audit entry names; it always has the number of all.
const recordedIDs = 100

const (
	redeliverEnded = `UPDATE webhook_deliveries SET status = 'queued', available_at = $1, max_attempts = attempt + $2, delivered_at = NULL, hold = NULL,
		stopped_by = NULL
		WHERE id %s AND status IN ('failed', 'delivered')`
	redeliverQueued = `UPDATE webhook_deliveries SET available_at = $1 WHERE id %s AND status = 'queued' AND hold IS NULL`
	// An endpoint may have moved meanwhile.
	followEndpoint = `UPDATE webhook_deliveries SET url = (SELECT p.url FROM webhook_endpoints p WHERE p.id = endpoint_id)
		WHERE id %s AND status = 'queued' AND endpoint_id IN (SELECT p.id FROM webhook_endpoints p)`
	countInFlight = `SELECT count(*) FROM webhook_deliveries WHERE id %s AND status = 'running'`
	countHeld     = `SELECT count(*) FROM webhook_deliveries WHERE id %s AND hold = 'held'`
)

// Redelivered is what came of an act.
type Redelivered struct {
	Queued   int // are sent now
	InFlight int // had an attempt on its way and were left alone
}

// Redeliver sends deliveries again, whatever came of them before: the same id and body, attempts counted on, a whole new budget of them
// with its schedule from the beginning. One that waits for its next attempt is sent now, within its budget. It returns once they are
// queued, with an entry in the audit log; ErrNoDelivery and ErrInFlight when there was none to send.
func (s *Service) Redeliver(ctx context.Context, who audit.Origin, ids ...string) (Redelivered, error) {
	switch {
	case len(ids) > RedeliverLimit:
		return Redelivered{}, ErrTooMany
	case len(ids) == 0:
		return Redelivered{}, ErrNoDelivery
	}
	var done Redelivered
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		var err error
		if done, err = s.requeue(ctx, tx, ids); err != nil {
			return err
		}
		return audit.Append(ctx, tx, s.redelivered(who, ids, done))
	})
	if err != nil {
		return Redelivered{}, fmt.Errorf("send webhooks again: %w", err)
	}
	s.Wake()
	return done, nil
}

// RedeliverMatching sends again what a filter finds, the oldest first, RedeliverLimit at most.
func (s *Service) RedeliverMatching(ctx context.Context, who audit.Origin, f Filter) (Redelivered, error) {
	ids, err := s.matching(ctx, f, RedeliverLimit)
	if err != nil {
		return Redelivered{}, err
	}
	return s.Redeliver(ctx, who, ids...)
}

// Matching counts what RedeliverMatching would send, and tells whether there is more than it takes at once.
func (s *Service) Matching(ctx context.Context, f Filter) (n int, more bool, err error) {
	ids, err := s.matching(ctx, f, RedeliverLimit+1)
	return min(len(ids), RedeliverLimit), len(ids) > RedeliverLimit, err
}

func (s *Service) matching(ctx context.Context, f Filter, limit int) ([]string, error) {
	var ids []string
	if err := s.filtered(ctx, f).Order("created_at, id").Limit(limit).Pluck("id", &ids).Error; err != nil {
		return nil, fmt.Errorf("find webhooks: %w", err)
	}
	return ids, nil
}

func (s *Service) redelivered(who audit.Origin, ids []string, done Redelivered) audit.Entry {
	object := ids[0]
	if len(ids) > 1 {
		object = ""
	}
	return audit.Entry{
		Origin: who, At: s.DB.NowMs(), Action: "webhook.redelivered", ObjectKind: "webhook", Object: object,
		After: map[string]any{"deliveries": done.Queued, "ids": ids[:min(len(ids), recordedIDs)]},
	}
}

// among completes a statement about ids, which are at that place of its arguments.
func (s *Service) among(statement, place string) string {
	if s.DB.Postgres() {
		return fmt.Sprintf(statement, "= ANY("+place+")")
	}
	return fmt.Sprintf(statement, "IN (SELECT value FROM json_each("+place+"))")
}

// requeue first brings forward what waits, so that nothing is counted twice.
func (s *Service) requeue(ctx context.Context, tx *database.Tx, ids []string) (Redelivered, error) {
	list, err := s.idsArg(ids)
	if err != nil {
		return Redelivered{}, err
	}
	in := s.among
	now := s.DB.NowMs()
	waiting, err := tx.Exec(ctx, in(redeliverQueued, "$2"), now, list)
	if err != nil {
		return Redelivered{}, err
	}
	ended, err := tx.Exec(ctx, in(redeliverEnded, "$3"), now, s.maxAttempts, list)
	if err != nil {
		return Redelivered{}, err
	}
	if _, err := tx.Exec(ctx, in(followEndpoint, "$1"), list); err != nil {
		return Redelivered{}, err
	}
	done := Redelivered{Queued: int(waiting + ended)}
	if err := tx.QueryRow(ctx, in(countInFlight, "$1"), []any{list}, &done.InFlight); err != nil {
		return Redelivered{}, err
	}
	switch {
	case done.Queued > 0:
		return done, nil
	case done.InFlight > 0:
		return Redelivered{}, ErrInFlight
	}
	var held int
	if err := tx.QueryRow(ctx, in(countHeld, "$1"), []any{list}, &held); err != nil {
		return Redelivered{}, err
	}
	if held > 0 {
		return Redelivered{}, ErrHeld
	}
	return Redelivered{}, ErrNoDelivery
}
