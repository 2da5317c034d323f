package approval

import (
	"context"
	"errors"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// What a reviewer has at hand: claims. None of it decides anything.

const claimFor = 15 * time.Minute

// Claim says that a person looks at a request; it runs out by itself. It warns others and does not keep them from deciding.
func (s *Service) Claim(ctx context.Context, who Person, id string) (*models.Approval, error) {
	return s.touch(ctx, id, `UPDATE approvals SET claimed_by = $2, claimed_until = $3 WHERE id = $1 AND closed_at IS NULL
		AND (claimed_by IS NULL OR claimed_by = $2 OR claimed_until <= $4) RETURNING `+columns, who.Name, s.DB.Now().Add(claimFor).UnixMilli(), s.DB.NowMs())
}

// Release gives a claim back.
func (s *Service) Release(ctx context.Context, who Person, id string) (*models.Approval, error) {
	return s.touch(ctx, id, `UPDATE approvals SET claimed_by = NULL, claimed_until = NULL WHERE id = $1 AND claimed_by = $2 RETURNING `+columns, who.Name)
}

// touch changes who has a request; when the guard does not hold it answers with the request as it is.
func (s *Service) touch(ctx context.Context, id, statement string, args ...any) (*models.Approval, error) {
	a, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	after := a
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		touched, err := first(tx.Query(ctx, statement, append([]any{a.ID}, args...)...))
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		after = touched
		return s.happened(ctx, tx, touched, s.DB.NowMs())
	})
	return after, err
}
