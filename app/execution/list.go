package execution

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/models"
)

// ErrBadCursor says that a cursor was not made by this list.
var ErrBadCursor = errors.New("the cursor was not made by this list: start again without it")

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
	Limit    int   // 1 to 200; 0: 50
	Cursor   string
}

// Page is one page of a list, newest first. Next is empty on the last page.
type Page struct {
	Rows []*models.Execution
	Next string
}

const (
	defaultPage = 50
	maxPage     = 200
)

// List reads one page by keyset. It never reads payloads.
func (s *Service) List(ctx context.Context, f Filter) (Page, error) {
	limit := f.Limit
	if limit <= 0 || limit > maxPage {
		limit = defaultPage
	}
	q, err := s.filtered(ctx, f)
	if err != nil {
		return Page{}, err
	}
	if f.Cursor != "" {
		at, id, err := readCursor(f.Cursor)
		if err != nil {
			return Page{}, err
		}
		q = q.Where("(created_at, id) < (?, ?)", at, id)
	}
	var rows []*models.Execution
	if err := q.Order("created_at DESC, id DESC").Limit(limit + 1).Find(&rows).Error; err != nil {
		return Page{}, fmt.Errorf("list executions: %w", err)
	}
	page := Page{Rows: rows}
	if len(rows) > limit {
		page.Rows = rows[:limit]
		page.Next = cursorOf(rows[limit-1])
	}
	return page, nil
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
	return q, nil
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

func cursorOf(e *models.Execution) string {
	return base64.RawURLEncoding.EncodeToString([]byte("x1:" + strconv.FormatInt(e.CreatedAt, 10) + ":" + e.ID))
}

func readCursor(cursor string) (at int64, id string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, "", ErrBadCursor
	}
	parts := strings.SplitN(string(text), ":", 3)
	if len(parts) != 3 || parts[0] != "x1" || parts[2] == "" {
		return 0, "", ErrBadCursor
	}
	if at, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return 0, "", ErrBadCursor
	}
	return at, parts[2], nil
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
	counts := []struct {
		into  *int
		where string
		args  []any
	}{
		{&sum.Pending, "status = 'pending' AND " + active, nil},
		{&sum.Queued, "status = 'queued' AND " + active, nil},
		{&sum.Running, "status = 'running' AND " + active, nil},
		{&sum.Waiting, "status = 'waiting' AND " + active, nil},
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
