package workflow

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/filter"
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
	Search   string // part of the id, the name or the target of the run
	Waiting  bool   // somebody is waited for
	Query    filter.Query
	Since    int64 // ms, inclusive
	Until    int64 // ms, exclusive
	Limit    int   // 1 to 200; 0: 25
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
	if f.Search != "" {
		exact := strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(strings.ToLower(f.Search))
		q = q.Where(`(lower(id) LIKE ? ESCAPE '\' OR lower(workflow_id) LIKE ? ESCAPE '\' OR lower(node_id || '.' || function) LIKE ? ESCAPE '\')`, "%"+exact+"%", "%"+exact+"%", "%"+exact+"%")
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
	return s.searched(q, f.Query)
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

// Order is how a numbered page is ordered.
type Order string

// The orders of numbered pages.
const (
	ByStart  Order = "started_at"
	ByStatus Order = "status"
	BySteps  Order = "total_steps"
	ByFailed Order = "failed_steps"
	ByActive Order = "active_executions"
)

// orders are the columns behind them.
var orders = map[Order]string{
	ByStart: "created_at", ByStatus: "status", BySteps: "total", ByFailed: "failed + timeout", ByActive: "total - succeeded - failed - timeout - cancelled",
}

// Known reports whether there is such an order.
func (o Order) Known() bool { return orders[o] != "" }

// Countable bounds what numbered pages count and sort: the newest runs that the filter finds.
const Countable = 10_000

// Numbered reads a page by its number, from 1, and counts what the filter finds, up to Countable. Clients that know no cursors need it.
func (s *Service) Numbered(ctx context.Context, f RunFilter, order Order, ascending bool, number, size int) (rows []*models.Run, total int, err error) {
	newest := s.filtered(ctx, f).Order("created_at DESC, id DESC").Limit(Countable)
	var found int64
	if err := s.DB.Gorm(ctx).Table("(?) AS runs", newest.Session(&gorm.Session{}).Select("id")).Count(&found).Error; err != nil {
		return nil, 0, fmt.Errorf("count runs: %w", err)
	}
	direction := " DESC"
	if ascending {
		direction = ""
	}
	q := newest
	if order != ByStart || ascending {
		q = s.DB.Gorm(ctx).Table("(?) AS runs", newest).Order(orders[order] + direction + ", created_at DESC, id DESC")
	}
	if err := q.Offset((number - 1) * size).Limit(size).Find(&rows).Error; err != nil {
		return nil, 0, fmt.Errorf("list runs: %w", err)
	}
	return rows, int(found), nil
}

// Shape is what the totals of a run do not tell.
type Shape struct {
	MaxDepth int
	Counts   map[models.Status]int
	Current  string // the function called last of what has not ended, "" when all has
	Root     *models.Step
}

// shapedUpTo is the size of the runs whose shapes are worked out for a list.
const shapedUpTo = 500

// Shapes reads the runs of a list that are not too large, in one query.
func (s *Service) Shapes(ctx context.Context, runs []*models.Run) (map[string]Shape, error) {
	var ids []string
	for _, r := range runs {
		if r.Total <= shapedUpTo {
			ids = append(ids, r.ID)
		}
	}
	shapes := make(map[string]Shape, len(ids))
	if len(ids) == 0 {
		return shapes, nil
	}
	var rows []struct {
		models.Step
		RunID string
	}
	err := s.DB.Gorm(ctx).Model(&models.Execution{}).Select("id, parent_id, run_id, node_id, function, status, error_message, created_at").
		Where("run_id IN ?", ids).Order("run_id, created_at, id").Limit(2 * MaxSteps).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the executions of a list of runs: %w", err)
	}
	for len(rows) > 0 {
		run := rows[0].RunID
		var steps []models.Step
		for len(rows) > 0 && rows[0].RunID == run {
			steps = append(steps, rows[0].Step)
			rows = rows[1:]
		}
		shapes[run] = shapeOf(steps)
	}
	return shapes, nil
}

func shapeOf(steps []models.Step) Shape {
	g := Build(steps)
	shape := Shape{MaxDepth: g.MaxDepth, Counts: g.Counts, Root: g.Tops()[0].Step}
	for _, n := range g.Nodes {
		if !n.Status.Terminal() {
			shape.Current = n.Function
		}
	}
	return shape
}
