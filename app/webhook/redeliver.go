package webhook

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
)

var (
	// ErrNoDelivery says that there is nothing to send again: no webhook was registered, or the execution has not ended.
	ErrNoDelivery = errors.New("this execution has no webhook delivery: none was registered, or it has not ended yet")
	// ErrInFlight says that an attempt is on its way at this moment.
	ErrInFlight = errors.New("an attempt is on its way: look at its outcome first")
)

const (
	redeliverEnded = `UPDATE webhook_deliveries SET status = 'queued', available_at = $1, max_attempts = attempt + $2, delivered_at = NULL
		WHERE execution_id = $3 AND status IN ('failed', 'delivered')`
	redeliverQueued = `UPDATE webhook_deliveries SET available_at = $1 WHERE execution_id = $2 AND status = 'queued'`
	countDeliveries = `SELECT count(*) FROM webhook_deliveries WHERE execution_id = $1`
)

// Redeliver sends the webhook of an execution again, whatever came of it before: the same id and body, attempts counted on, a whole
// new budget of them with its schedule from the beginning. A delivery that waits for its next attempt is sent now, within its budget.
// It returns once the delivery is queued; ErrNoDelivery and ErrInFlight are the caller's.
func (s *Service) Redeliver(ctx context.Context, executionID string) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error { return s.requeue(ctx, tx, executionID) })
	if err != nil {
		return fmt.Errorf("redeliver the webhook of %s: %w", executionID, err)
	}
	s.Wake()
	return nil
}

func (s *Service) requeue(ctx context.Context, tx *database.Tx, executionID string) error {
	now := s.DB.NowMs()
	ended, err := tx.Exec(ctx, redeliverEnded, now, s.maxAttempts, executionID)
	if err != nil || ended > 0 {
		return err
	}
	waiting, err := tx.Exec(ctx, redeliverQueued, now, executionID)
	if err != nil || waiting > 0 {
		return err
	}
	var deliveries int64
	if err := tx.QueryRow(ctx, countDeliveries, []any{executionID}, &deliveries); err != nil {
		return err
	}
	if deliveries == 0 {
		return ErrNoDelivery
	}
	return ErrInFlight
}
