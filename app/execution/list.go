package execution

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/models"
)

// ErrBadCursor says that a cursor was not made by this list.
var ErrBadCursor = database.ErrBadCursor

// Filter selects executions. Empty fields do not narrow.
type Filter struct {
	Statuses []models.Status
	Node     string
	Function string
	Session  string
	Actor    string
	Run      string // a run id or a caller's workflow id
	Parent   string
	Mode     string
	Since    int64 // ms, inclusive
	Until    int64 // ms, exclusive
	Query    filter.Query
	Limit    int // 1 to 200; 0: 50
	Cursor   string
}

// Page is one page of a list, newest first.
type Page = database.Page[*models.Execution]

const (
	defaultPage = 50
	maxPage     = 200
	searchFor   = 5 * time.Second // a search that no index serves must not hold the database up
)

// List reads one page by keyset. It never reads payloads.
func (s *Service) List(ctx context.Context, f Filter) (Page, error) {
	limit := f.Limit
	if limit <= 0 || limit > maxPage {
		limit = defaultPage
	}
	return s.page(ctx, f, limit)
}

func (s *Service) page(ctx context.Context, f Filter, limit int) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, searchFor)
	defer cancel()
	q, err := s.filtered(ctx, f)
	if err != nil {
		return Page{}, err
	}
	page, err := database.ReadPage(q, f.Cursor, limit, place)
	if err != nil {
		return Page{}, fmt.Errorf("list executions: %w", broad(ctx, err))
	}
	return page, nil
}

func place(e *models.Execution) database.Place {
	return database.Place{CreatedAt: e.CreatedAt, ID: e.ID}
}

func (s *Service) filtered(ctx context.Context, f Filter) (*gorm.DB, error) {
	q := s.DB.Gorm(ctx).Model(&models.Execution{})
	if len(f.Statuses) > 0 {
		q = q.Where(statusClause(f.Statuses))
	}
	if f.Run != "" {
		run, err := s.resolveRun(ctx, f.Run)
		if err != nil {
			return nil, err
		}
		q = q.Where("run_id = ?", orElse(run, f.Run))
	}
	for column, value := range map[string]string{
		"node_id": f.Node, "function": f.Function, "session_id": f.Session, "actor_id": f.Actor, "parent_id": f.Parent, "mode": f.Mode,
	} {
		if value != "" {
			q = q.Where(column+" = ?", value)
		}
	}
	if f.Since > 0 {
		q = q.Where("created_at >= ?", f.Since)
	}
	if f.Until > 0 {
		q = q.Where("created_at < ?", f.Until)
	}
	return s.searched(ctx, q, f.Query)
}

// unhappy is the condition of the indexes executions_unhappy and executions_node_unhappy, word for word as active is.
const unhappy = "finished_at IS NOT NULL AND status <> 'succeeded'"

// statusClause writes the statuses as literals, and the condition of a partial index if they all lie in it. The words come from our own table, never from a request.
func statusClause(statuses []models.Status) string {
	clause := "status IN " + literals(statuses)
	switch {
	case all(statuses, func(s models.Status) bool { return !s.Terminal() }):
		clause += " AND " + active
	case all(statuses, func(s models.Status) bool { return s.Terminal() && s != models.Succeeded }):
		clause += " AND " + unhappy
	}
	return clause
}

func literals(statuses []models.Status) string {
	words := make([]string, len(statuses))
	for i, s := range statuses {
		words[i] = "'" + string(s) + "'"
	}
	return "(" + strings.Join(words, ", ") + ")"
}

func all(statuses []models.Status, is func(models.Status) bool) bool {
	return !slices.ContainsFunc(statuses, func(s models.Status) bool { return !is(s) })
}

const countedNewer = 100

// Newer counts what a filter finds that is newer than an execution, at most 100.
func (s *Service) Newer(ctx context.Context, f Filter, after string) (n int, more bool, err error) {
	row, err := s.Row(ctx, after)
	if errors.Is(err, ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	q, err := s.filtered(ctx, f)
	if err != nil {
		return 0, false, err
	}
	var ids []string
	err = q.Where("(created_at, id) > (?, ?)", row.CreatedAt, row.ID).Order("created_at, id").Limit(countedNewer+1).Pluck("id", &ids).Error
	if err != nil {
		return 0, false, fmt.Errorf("count newer executions: %w", err)
	}
	return min(len(ids), countedNewer), len(ids) > countedNewer, nil
}

// Count counts what a filter finds, at most limit.
func (s *Service) Count(ctx context.Context, f Filter, limit int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, searchFor)
	defer cancel()
	q, err := s.filtered(ctx, f)
	if err != nil {
		return 0, err
	}
	var n int64
	if err := s.DB.Gorm(ctx).Table("(?) c", q.Select("1").Limit(limit)).Count(&n).Error; err != nil {
		return 0, fmt.Errorf("count executions: %w", broad(ctx, err))
	}
	return int(n), nil
}

// Rows reads executions by id, newest first, without their payloads.
func (s *Service) Rows(ctx context.Context, ids []string) ([]*models.Execution, error) {
	rows, err := s.queryIDs(ctx, "SELECT "+executionColumns+" FROM executions WHERE id IN (%s) ORDER BY created_at DESC, id DESC", ids)
	if err != nil {
		return nil, fmt.Errorf("read executions: %w", err)
	}
	return collect(rows, nil)
}

// Summary is the state of the whole at a glance. Counts stop at CountLimit.
type Summary struct {
	Pending, Queued, Running, Waiting int
	Failed                            int    // failed or timed out since the instant asked for
	OldestQueuedAt                    *int64 // ms
	FinishedLastMinute                int
}

// CountLimit bounds every count of Summary: at this figure there are that many or more.
const CountLimit = 10_000

// Summarise counts what happens now and what has failed since an instant (ms).
func (s *Service) Summarise(ctx context.Context, since int64) (Summary, error) {
	var sum Summary
	if err := s.countActive(ctx, &sum); err != nil {
		return sum, err
	}
	counts := []struct {
		into  *int
		where string
		args  []any
	}{
		{&sum.Failed, "status IN ('failed', 'timeout') AND " + unhappy + " AND created_at >= $2", []any{since}},
		{&sum.FinishedLastMinute, "created_at >= $2 AND finished_at >= $2", []any{s.DB.NowMs() - 60_000}},
	}
	for _, c := range counts {
		err := s.DB.QueryRow(ctx, "SELECT count(*) FROM (SELECT 1 FROM executions WHERE "+c.where+" LIMIT $1) c", append([]any{CountLimit}, c.args...), c.into)
		if err != nil {
			return sum, fmt.Errorf("count executions: %w", err)
		}
	}
	if sum.Queued > 0 {
		if err := s.DB.QueryRow(ctx, "SELECT min(created_at) FROM executions WHERE status = 'queued' AND "+active, nil, &sum.OldestQueuedAt); err != nil {
			return sum, fmt.Errorf("look for the oldest queued execution: %w", err)
		}
	}
	return sum, nil
}

// Active counts what has not ended; the rest of the summary stays zero.
func (s *Service) Active(ctx context.Context) (Summary, error) {
	var sum Summary
	return sum, s.countActive(ctx, &sum)
}

// countActive counts along the index of what has not ended, each status up to CountLimit.
func (s *Service) countActive(ctx context.Context, sum *Summary) error {
	for _, c := range []struct {
		status models.Status
		into   *int
	}{{models.Pending, &sum.Pending}, {models.Queued, &sum.Queued}, {models.Running, &sum.Running}, {models.Waiting, &sum.Waiting}} {
		err := s.DB.QueryRow(ctx, "SELECT count(*) FROM (SELECT 1 FROM executions WHERE status = '"+string(c.status)+"' AND "+active+" LIMIT $1) c",
			[]any{CountLimit}, c.into)
		if err != nil {
			return fmt.Errorf("count what is %s: %w", c.status, err)
		}
	}
	return nil
}

// CountChildren counts the executions that this one has called, up to CountLimit.
func (s *Service) CountChildren(ctx context.Context, id string) (int, error) {
	var n int
	err := s.DB.QueryRow(ctx, "SELECT count(*) FROM (SELECT 1 FROM executions WHERE parent_id = $1 LIMIT $2) c", []any{id, CountLimit}, &n)
	if err != nil {
		return 0, fmt.Errorf("count the calls of %s: %w", id, err)
	}
	return n, nil
}

// Found is what an id, or the beginning of one, leads to; all fields are empty when nothing.
type Found struct{ ExecutionID, RunID, NodeID, SessionID string }

// Resolve looks for whatever has this id: an execution, a run by its own or its callers' name, a node, a session; else the one execution
// or run whose id begins like this, if there is just one.
func (s *Service) Resolve(ctx context.Context, id string) (Found, error) {
	for _, look := range []struct {
		query string
		found func(string) Found
	}{
		{"SELECT id FROM executions WHERE id = $1", func(x string) Found { return Found{ExecutionID: x} }},
		{"SELECT run_id FROM run_aliases WHERE workflow_id = $1 UNION ALL SELECT run_id FROM executions WHERE run_id = $1 LIMIT 1", func(x string) Found { return Found{RunID: x} }},
		{"SELECT id FROM nodes WHERE id = $1", func(x string) Found { return Found{NodeID: x} }},
		{"SELECT session_id FROM executions WHERE session_id = $1 LIMIT 1", func(x string) Found { return Found{SessionID: x} }},
	} {
		var x string
		err := s.DB.QueryRow(ctx, look.query, []any{id}, &x)
		if err == nil {
			return look.found(x), nil
		}
		if !errors.Is(err, database.ErrNoRows) {
			return Found{}, fmt.Errorf("look for %q: %w", id, err)
		}
	}
	return s.resolvePrefix(ctx, id)
}

func (s *Service) resolvePrefix(ctx context.Context, id string) (Found, error) {
	for _, prefix := range []string{id, "exec_" + id} {
		var ids []string
		err := s.DB.Gorm(ctx).Model(&models.Execution{}).Where("id >= ? AND id < ?", prefix, prefix+"\U0010FFFF").Limit(2).Pluck("id", &ids).Error
		if err != nil {
			return Found{}, fmt.Errorf("look for %q: %w", id, err)
		}
		if len(ids) == 1 {
			return Found{ExecutionID: ids[0]}, nil
		}
	}
	return Found{}, nil
}
