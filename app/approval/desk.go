package approval

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// What a reviewer has at hand: claims and saved views. None of it decides anything.

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

const maxViews = 50

// Views lists a person's saved views of the queue.
func (s *Service) Views(ctx context.Context, owner string) ([]models.SavedView, error) {
	var views []models.SavedView
	if err := s.DB.Gorm(ctx).Where("owner = ? AND list = 'approvals'", owner).Order("name").Limit(maxViews).Find(&views).Error; err != nil {
		return nil, fmt.Errorf("read saved views: %w", err)
	}
	return views, nil
}

// SaveView keeps a filter under a name; the same name again replaces it.
func (s *Service) SaveView(ctx context.Context, owner, name, query string) (string, error) {
	if name == "" || len(name) > 100 || len(query) > maxURL {
		return "", field("name", "must have between 1 and 100 bytes")
	}
	id := "view_" + uuid.NewString()
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		return tx.QueryRow(ctx, `INSERT INTO saved_views (id, owner, list, name, query, created_at) VALUES ($1, $2, 'approvals', $3, $4, $5)
			ON CONFLICT (owner, list, name) DO UPDATE SET query = excluded.query RETURNING id`, []any{id, owner, name, query, s.DB.NowMs()}, &id)
	})
	if err != nil {
		return "", fmt.Errorf("save a view: %w", err)
	}
	return id, nil
}

// DeleteView forgets one of a person's views.
func (s *Service) DeleteView(ctx context.Context, owner, id string) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM saved_views WHERE owner = $1 AND id = $2", owner, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete a view: %w", err)
	}
	return nil
}
