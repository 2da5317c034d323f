package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Overlaps of a rotation: how long the old secret goes on signing beside the new one.
const (
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 7 * 24 * time.Hour
)

const (
	exchange = `UPDATE webhook_endpoints SET secret = $2, old_secret = $3, old_secret_until = $4, rotated_at = $5, updated_at = $5 WHERE id = $1`
	forget   = `UPDATE webhook_endpoints SET old_secret = NULL, old_secret_until = NULL, updated_at = $2 WHERE id = $1`
	expire   = `UPDATE webhook_endpoints SET old_secret = NULL, old_secret_until = NULL WHERE old_secret_until <= $1`
)

// RotateSecret gives an endpoint another secret, the given or a new one, and tells it this once. The one it had signs beside it until overlap
// is over; if a rotation is under way already, the oldest of the three ends now.
func (s *Service) RotateSecret(ctx context.Context, who audit.Origin, id, given string, overlap time.Duration) (*models.WebhookEndpoint, string, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return nil, "", invalid("overlap: choose a time of up to %d hours", int(MaxOverlap.Hours()))
	}
	key, err := s.newSecret(given)
	if err != nil {
		return nil, "", err
	}
	e, err := s.onEndpoint(ctx, id, func(tx *database.Tx, e *models.WebhookEndpoint) error {
		now := s.DB.NowMs()
		if err := s.rotate(e, key, overlap, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, exchange, e.ID, e.Secret, e.OldSecret, e.OldSecretUntil, now); err != nil {
			return err
		}
		return s.recordEndpoint(ctx, tx, who, "webhook_endpoint.rotated", e.ID, nil, map[string]any{"old_secret_until": e.OldSecretUntil})
	})
	if err != nil {
		return nil, "", err
	}
	return e, key, nil
}

// rotate seals the secret that the endpoint has for its new place, and the new one for that of the old.
func (s *Service) rotate(e *models.WebhookEndpoint, key string, overlap time.Duration, now int64) error {
	place := ofEndpoint(e.ID)
	e.RotatedAt, e.OldSecret, e.OldSecretUntil = &now, nil, nil
	if overlap > 0 {
		old, err := s.Box.Open(place.secret(), e.Secret)
		if err != nil {
			return fmt.Errorf("open the webhook secret: %w", err)
		}
		if e.OldSecret, err = s.Box.Seal(place.oldSecret(), old); err != nil {
			return fmt.Errorf("seal the old webhook secret: %w", err)
		}
		until := now + overlap.Milliseconds()
		e.OldSecretUntil = &until
	}
	var err error
	if e.Secret, err = s.Box.Seal(place.secret(), []byte(key)); err != nil {
		return fmt.Errorf("seal the webhook secret: %w", err)
	}
	return nil
}

// RetireSecret ends the overlap of a rotation now.
func (s *Service) RetireSecret(ctx context.Context, who audit.Origin, id string) (*models.WebhookEndpoint, error) {
	return s.onEndpoint(ctx, id, func(tx *database.Tx, e *models.WebhookEndpoint) error {
		e.OldSecret, e.OldSecretUntil, e.UpdatedAt = nil, nil, s.DB.NowMs()
		if _, err := tx.Exec(ctx, forget, e.ID, e.UpdatedAt); err != nil {
			return err
		}
		return s.recordEndpoint(ctx, tx, who, "webhook_endpoint.secret_retired", e.ID, nil, nil)
	})
}

// forgetSecrets wipes what signs no more. Deliveries have gone by the time alone before that.
func (s *Service) forgetSecrets(ctx context.Context) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, expire, s.DB.NowMs())
		return err
	})
	if err != nil {
		return fmt.Errorf("forget old webhook secrets: %w", err)
	}
	return nil
}
