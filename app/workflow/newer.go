package workflow

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/models"
)

const countedNewer = 100

// Newer counts what a filter finds that is newer than a run, at most 100.
func (s *Service) Newer(ctx context.Context, f RunFilter, after string) (n int, more bool, err error) {
	run, err := s.Run(ctx, after)
	if errors.Is(err, ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	var ids []string
	err = s.filtered(ctx, f).Where("(created_at, id) > (?, ?)", run.CreatedAt, run.ID).Order("created_at, id").Limit(countedNewer+1).Pluck("id", &ids).Error
	if err != nil {
		return 0, false, fmt.Errorf("count newer runs: %w", err)
	}
	return min(len(ids), countedNewer), len(ids) > countedNewer, nil
}

// Rows reads runs by id, newest first.
func (s *Service) Rows(ctx context.Context, ids []string) ([]*models.Run, error) {
	var runs []*models.Run
	if err := s.DB.Gorm(ctx).Where("id IN ?", ids).Order("created_at DESC, id DESC").Find(&runs).Error; err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	return runs, nil
}

// CountLimit bounds the counts of CountOpen: at this figure there are that many or more.
const CountLimit = 10_000

// CountOpen counts the runs that have something on its way, and those in which a person is waited for.
func (s *Service) CountOpen(ctx context.Context) (active, waiting int, err error) {
	for _, c := range []struct {
		into  *int
		where string
	}{{&active, "status = 'running'"}, {&waiting, "waiting > 0"}} {
		query := "SELECT count(*) FROM (SELECT 1 FROM runs WHERE " + c.where + " AND " + open + " LIMIT $1) c"
		if err := s.DB.QueryRow(ctx, query, []any{CountLimit}, c.into); err != nil {
			return 0, 0, fmt.Errorf("count open runs: %w", err)
		}
	}
	return active, waiting, nil
}

// Position is the place of an execution in its run, from 1, in the order in which they were accepted, and how many there are. Counting
// stops at CountLimit.
func (s *Service) Position(ctx context.Context, e *models.Execution) (place, of int, err error) {
	err = s.DB.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM executions WHERE run_id = $1 AND (created_at, id) <= ($2, $3) LIMIT $4) c),
		coalesce((SELECT total FROM runs WHERE id = $1), 0)`, []any{e.RunID, e.CreatedAt, e.ID, CountLimit}, &place, &of)
	if err != nil {
		return 0, 0, fmt.Errorf("find the place of %s in its run: %w", e.ID, err)
	}
	return place, of, nil
}
