package workflow

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// RunFilter selects runs. Empty fields do not narrow.
type RunFilter struct {
	Statuses []models.Status // of the run: running, waiting or how it ended
	Node     string          // of the execution it began with, as are Function, Session and Actor
	Function string
	Session  string
	Actor    string
	Run      string // its id, or the name its callers gave it
	Waiting  bool   // somebody is waited for
	Since    int64  // ms, inclusive
	Until    int64  // ms, exclusive
	Limit    int    // 1 to 200; 0: 25
	Cursor   string
}

// RunPage is one page of runs, newest first.
type RunPage = database.Page[*models.Run]

const (
	defaultPage = 25
	maxPage     = 200
)

// List reads one page by keyset, from the totals alone.
func (s *Service) List(ctx context.Context, f RunFilter) (RunPage, error) {
	limit := f.Limit
	if limit <= 0 || limit > maxPage {
		limit = defaultPage
	}
	place := func(r *models.Run) database.Place { return database.Place{CreatedAt: r.CreatedAt, ID: r.ID} }
	page, err := database.ReadPage(s.filtered(ctx, f), f.Cursor, limit, place)
	if err != nil {
		return RunPage{}, fmt.Errorf("list runs: %w", err)
	}
	return page, nil
}

// The conditions of the indexes runs_open and runs_unhappy, word for word: planners use a partial index only when they find it.
const (
	open    = "finished_at IS NULL"
	unhappy = "finished_at IS NOT NULL AND status <> 'succeeded'"
)

func (s *Service) filtered(ctx context.Context, f RunFilter) *gorm.DB {
	q := s.DB.Gorm(ctx).Model(&models.Run{})
	if len(f.Statuses) > 0 {
		q = q.Where(statusClause(f.Statuses))
	}
	if f.Waiting {
		q = q.Where("waiting > 0 AND " + open)
	}
	if f.Run != "" {
		q = q.Where("id IN (SELECT ? UNION SELECT run_id FROM run_aliases WHERE workflow_id = ?)", f.Run, f.Run)
	}
	for _, column := range []struct{ name, value string }{
		{"node_id", f.Node}, {"function", f.Function}, {"session_id", f.Session}, {"actor_id", f.Actor},
	} {
		if column.value != "" {
			q = q.Where(column.name+" = ?", column.value)
		}
	}
	if f.Since > 0 {
		q = q.Where("created_at >= ?", f.Since)
	}
	if f.Until > 0 {
		q = q.Where("created_at < ?", f.Until)
	}
	return q
}

// statusClause writes the statuses as literals, and the condition of a partial index if they all lie in it. The words come from our
// own table, never from a request. What is pending, queued or paused counts as running: runs have no words for them.
func statusClause(statuses []models.Status) string {
	var words []string
	ended, unended, good := false, false, false
	for _, status := range statuses {
		switch {
		case status.Terminal():
			ended, good = true, good || status == models.Succeeded
		case status != models.Waiting:
			status, unended = models.Running, true
		default:
			unended = true
		}
		if word := "'" + string(status) + "'"; !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	clause := "status IN (" + strings.Join(words, ", ") + ")"
	switch {
	case !ended:
		clause += " AND " + open
	case !unended && !good:
		clause += " AND " + unhappy
	}
	return clause
}
