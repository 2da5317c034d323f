// Package view keeps filters of lists under names. Its one invariant: a name is its owner's and unique in one list, and an id opens the
// view for everybody who may read, so that it can be shared.
package view

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// What callers may be told.
var (
	ErrNotFound = errors.New("there is no saved view with this id: its owner may have deleted it")
	ErrBadName  = errors.New("the name of a view must have between 1 and 100 bytes")
	ErrTooLong  = errors.New("the filter is too long to be kept")
	ErrTooMany  = errors.New("there are as many saved views as are kept: delete one first")
)

const (
	maxName  = 100
	maxQuery = 8 << 10
	maxViews = 50 // of one owner in one list
)

// Service keeps the views.
type Service struct{ DB *database.DB }

// List names an owner's views of a list, in the order of their names.
func (s *Service) List(ctx context.Context, owner, list string) ([]models.SavedView, error) {
	var views []models.SavedView
	if err := s.DB.Gorm(ctx).Where("owner = ? AND list = ?", owner, list).Order("name").Limit(maxViews).Find(&views).Error; err != nil {
		return nil, fmt.Errorf("read saved views: %w", err)
	}
	return views, nil
}

// Get reads anybody's view of a list; ErrNotFound when there is none.
func (s *Service) Get(ctx context.Context, list, id string) (models.SavedView, error) {
	v := models.SavedView{ID: id, List: list}
	err := s.DB.QueryRow(ctx, "SELECT owner, name, query, created_at FROM saved_views WHERE id = $1 AND list = $2", []any{id, list},
		&v.Owner, &v.Name, &v.Query, &v.CreatedAt)
	if errors.Is(err, database.ErrNoRows) {
		return v, ErrNotFound
	}
	if err != nil {
		return v, fmt.Errorf("read a saved view: %w", err)
	}
	return v, nil
}

// Save keeps a filter under a name and returns its id; the same name again replaces the filter.
func (s *Service) Save(ctx context.Context, owner, list, name, query string) (string, error) {
	switch {
	case name == "" || len(name) > maxName:
		return "", ErrBadName
	case len(query) > maxQuery:
		return "", ErrTooLong
	}
	id := "view_" + uuid.NewString()
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM saved_views WHERE owner = $1 AND list = $2 AND name <> $3", []any{owner, list, name}, &n); err != nil {
			return err
		}
		if n >= maxViews {
			return ErrTooMany
		}
		return tx.QueryRow(ctx, `INSERT INTO saved_views (id, owner, list, name, query, created_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (owner, list, name) DO UPDATE SET query = excluded.query RETURNING id`, []any{id, owner, list, name, query, s.DB.NowMs()}, &id)
	})
	if errors.Is(err, ErrTooMany) {
		return "", ErrTooMany
	}
	if err != nil {
		return "", fmt.Errorf("save a view: %w", err)
	}
	return id, nil
}

// Delete forgets one of an owner's views. One that is not there is forgotten already.
func (s *Service) Delete(ctx context.Context, owner, id string) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM saved_views WHERE owner = $1 AND id = $2", owner, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete a view: %w", err)
	}
	return nil
}
