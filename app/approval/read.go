package approval

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Get finds a request by our id, or by the agent's: the open one, else the one closed last (ruling C16).
func (s *Service) Get(ctx context.Context, id string) (*models.Approval, error) {
	return first(s.DB.Query(ctx, `SELECT `+columns+` FROM approvals WHERE id = $1 OR request_id = $1
		ORDER BY CASE WHEN id = $1 THEN 0 WHEN closed_at IS NULL THEN 1 ELSE 2 END, created_at DESC LIMIT 1`, id))
}

// OfExecution lists the rounds of an execution, oldest first.
func (s *Service) OfExecution(ctx context.Context, executionID string) ([]*models.Approval, error) {
	list, err := collect(s.DB.Query(ctx, "SELECT "+columns+" FROM approvals WHERE execution_id = $1 ORDER BY round", executionID))
	if err != nil {
		return nil, fmt.Errorf("read the rounds of an execution: %w", err)
	}
	return list, nil
}

// Given is the JSON that comes with a decision; nil where there is none.
type Given struct {
	Response []byte // the answers to the form, else the edited payload: the one place existing agents look at (wire.md B23)
	Edited   []byte // the payload as the reviewer changed it
}

func given(a *models.Approval, edited []byte) Given {
	if a.Response != nil {
		return Given{Response: []byte(*a.Response), Edited: edited}
	}
	return Given{Response: edited, Edited: edited}
}

// Status is what the agent polls: the round with the given request id, or the last one. Reading a decision is taking it.
func (s *Service) Status(ctx context.Context, executionID, requestID string) (*models.Approval, Given, error) {
	rounds, err := s.OfExecution(ctx, executionID)
	if err != nil {
		return nil, Given{}, err
	}
	var a *models.Approval
	for _, r := range rounds {
		if requestID == "" || r.RequestID == requestID || r.ID == requestID {
			a = r
		}
	}
	if a == nil {
		return nil, Given{}, ErrNotFound
	}
	if a.Status.Open() {
		return a, Given{}, nil
	}
	if a.ToldAt == nil {
		if err := s.told(ctx, executionID, a.RequestID); err != nil {
			return nil, Given{}, err
		}
	}
	body, err := s.Body(ctx, a.ID)
	return a, given(a, body.Edited), err
}

// Body reads the large parts of a request; all nil when it has none.
func (s *Service) Body(ctx context.Context, id string) (models.ApprovalBody, error) {
	b := models.ApprovalBody{ApprovalID: id}
	err := s.DB.QueryRow(ctx, "SELECT payload, form, edited FROM approval_bodies WHERE approval_id = $1", []any{id}, &b.Payload, &b.Form, &b.Edited)
	if errors.Is(err, database.ErrNoRows) {
		return b, nil
	}
	if err != nil {
		return b, fmt.Errorf("read what is proposed: %w", err)
	}
	return b, nil
}

// Votes lists the approvals so far of a request that needs several.
func (s *Service) Votes(ctx context.Context, id string) ([]models.ApprovalVote, error) {
	var votes []models.ApprovalVote
	if err := s.DB.Gorm(ctx).Where("approval_id = ?", id).Order("at, voter").Find(&votes).Error; err != nil {
		return nil, fmt.Errorf("read the votes: %w", err)
	}
	return votes, nil
}

// Filter selects requests. Empty fields do not narrow.
type Filter struct {
	State    string // pending (the default), mine, expiring, decided
	Me       string // whose "mine" it is
	Risk     string
	Node     string
	Function string
	Session  string
	Actor    string
	Run      string
	Claimed  string // me or none
	Q        string
	Newest   bool // by time of the request, newest first; otherwise by expiry, or for decided ones by the time of the decision
	Limit    int
	Cursor   string
}

// Page is one page of the queue.
type Page struct {
	Rows []*models.Approval
	Next string
}

// ErrBadCursor says that a cursor was not made by this list.
var ErrBadCursor = errors.New("the cursor was not made by this list: start again without it")

const soon = 3600_000 // ms: a request that expires within it is expiring

// List reads one page of the queue by keyset.
func (s *Service) List(ctx context.Context, f Filter) (Page, error) {
	if f.Limit <= 0 || f.Limit > 200 {
		f.Limit = 50
	}
	q := s.filtered(ctx, f)
	column, descending := f.order()
	if f.Cursor != "" {
		at, id, err := readCursor(f.Cursor)
		if err != nil {
			return Page{}, err
		}
		compare := " > "
		if descending {
			compare = " < "
		}
		q = q.Where("("+column+", id)"+compare+"(?, ?)", at, id)
	}
	direction := ""
	if descending {
		direction = " DESC"
	}
	var rows []*models.Approval
	if err := q.Order(column + direction + ", id" + direction).Limit(f.Limit + 1).Find(&rows).Error; err != nil {
		return Page{}, fmt.Errorf("list approval requests: %w", err)
	}
	page := Page{Rows: rows}
	if len(rows) > f.Limit {
		page.Rows = rows[:f.Limit]
		page.Next = cursorOf(rows[f.Limit-1], column)
	}
	return page, nil
}

func (f Filter) order() (column string, descending bool) {
	switch {
	case f.State == "decided":
		return "closed_at", true
	case f.Newest:
		return "created_at", true
	}
	return "expires_at", false
}

func (s *Service) filtered(ctx context.Context, f Filter) *gorm.DB {
	q := s.DB.Gorm(ctx).Model(&models.Approval{})
	now := s.DB.NowMs()
	switch f.State {
	case "decided":
		q = q.Where("closed_at IS NOT NULL")
	case "mine":
		q = q.Where("closed_at IS NULL AND claimed_by = ? AND claimed_until > ?", f.Me, now)
	case "expiring":
		q = q.Where("closed_at IS NULL AND expires_at < ?", now+soon)
	default:
		q = q.Where("closed_at IS NULL")
	}
	for column, value := range map[string]string{
		"risk": f.Risk, "node_id": f.Node, "function": f.Function, "session_id": f.Session, "actor_id": f.Actor, "run_id": f.Run,
	} {
		if value != "" {
			q = q.Where(column+" = ?", value)
		}
	}
	switch f.Claimed {
	case "me":
		q = q.Where("claimed_by = ? AND claimed_until > ?", f.Me, now)
	case "none":
		q = q.Where("(claimed_by IS NULL OR claimed_until <= ?)", now)
	}
	if f.Q != "" {
		like := "%" + strings.NewReplacer("\\", "\\\\", "%", "\\%", "_", "\\_").Replace(strings.ToLower(f.Q)) + "%"
		q = q.Where(`(lower(title) LIKE ? ESCAPE '\' OR lower(summary) LIKE ? ESCAPE '\' OR id LIKE ? ESCAPE '\' OR request_id LIKE ? ESCAPE '\' OR execution_id LIKE ? ESCAPE '\')`,
			like, like, like, like, like)
	}
	return q
}

func cursorOf(a *models.Approval, column string) string {
	at := a.ExpiresAt
	switch {
	case column == "created_at":
		at = a.CreatedAt
	case column == "closed_at" && a.ClosedAt != nil:
		at = *a.ClosedAt
	}
	return base64.RawURLEncoding.EncodeToString([]byte("a1:" + strconv.FormatInt(at, 10) + ":" + a.ID))
}

func readCursor(text string) (at int64, id string, err error) {
	plain, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return 0, "", ErrBadCursor
	}
	parts := strings.SplitN(string(plain), ":", 3)
	if len(parts) != 3 || parts[0] != "a1" {
		return 0, "", ErrBadCursor
	}
	if at, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return 0, "", ErrBadCursor
	}
	return at, parts[2], nil
}

// Rows reads requests by id, in no particular order.
func (s *Service) Rows(ctx context.Context, ids []string) ([]*models.Approval, error) {
	var rows []*models.Approval
	if err := s.DB.Gorm(ctx).Where("id IN ?", ids).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read approval requests: %w", err)
	}
	return rows, nil
}

// Newer counts the requests of a filter that were made after an instant (ms), up to 100.
func (s *Service) Newer(ctx context.Context, f Filter, after int64) (n int, more bool, err error) {
	var ids []string
	if err := s.filtered(ctx, f).Where("created_at > ?", after).Limit(101).Pluck("id", &ids).Error; err != nil {
		return 0, false, fmt.Errorf("count new approval requests: %w", err)
	}
	return min(len(ids), 100), len(ids) > 100, nil
}

// Counts are the numbers on the tabs, each up to CountLimit.
type Counts struct{ Pending, Mine, Expiring, Overdue int }

// CountLimit bounds every count of Counts.
const CountLimit = 1000

// Count counts the queue for one person.
func (s *Service) Count(ctx context.Context, me string) (Counts, error) {
	var c Counts
	now := s.DB.NowMs()
	for _, one := range []struct {
		into  *int
		where string
		args  []any
	}{
		{&c.Pending, "closed_at IS NULL", nil},
		{&c.Mine, "closed_at IS NULL AND claimed_by = $2 AND claimed_until > $3", []any{me, now}},
		{&c.Expiring, "closed_at IS NULL AND expires_at < $2", []any{now + soon}},
		{&c.Overdue, "closed_at IS NULL AND expires_at < $2", []any{now}},
	} {
		err := s.DB.QueryRow(ctx, "SELECT count(*) FROM (SELECT 1 FROM approvals WHERE "+one.where+" LIMIT $1) c", append([]any{CountLimit}, one.args...), one.into)
		if err != nil {
			return c, fmt.Errorf("count the approval queue: %w", err)
		}
	}
	return c, nil
}

// Alike counts the open requests of each of the given shapes.
func (s *Service) Alike(ctx context.Context, shapes []string) (map[string]int, error) {
	var found []struct {
		Shape string
		N     int
	}
	alike := map[string]int{}
	if len(shapes) == 0 {
		return alike, nil
	}
	err := s.DB.Gorm(ctx).Model(&models.Approval{}).Select("shape, count(*) AS n").Where("closed_at IS NULL AND shape IN ?", shapes).Group("shape").Find(&found).Error
	if err != nil {
		return nil, fmt.Errorf("count requests that look alike: %w", err)
	}
	for _, f := range found {
		alike[f.Shape] = f.N
	}
	return alike, nil
}

// Similar is how requests of one shape were decided before.
type Similar struct {
	Counts map[models.ApprovalStatus]int // of the last hundred
	Recent []*models.Approval            // the last five, newest first
}

// SimilarTo looks at what was decided about requests like this one.
func (s *Service) SimilarTo(ctx context.Context, a *models.Approval) (Similar, error) {
	list, err := collect(s.DB.Query(ctx, `SELECT `+columns+` FROM approvals WHERE shape = $1 AND decided_at IS NOT NULL AND closed_at IS NOT NULL AND id <> $2
		ORDER BY decided_at DESC LIMIT 100`, a.Shape, a.ID))
	if err != nil {
		return Similar{}, fmt.Errorf("look for similar decisions: %w", err)
	}
	similar := Similar{Counts: map[models.ApprovalStatus]int{}, Recent: list[:min(len(list), 5)]}
	for _, one := range list {
		similar.Counts[one.Status]++
	}
	return similar, nil
}

// LastDecided is the request that was decided last; nil when none was.
func (s *Service) LastDecided(ctx context.Context) (*models.Approval, error) {
	a, err := first(s.DB.Query(ctx, "SELECT "+columns+" FROM approvals WHERE closed_at IS NOT NULL ORDER BY closed_at DESC, id DESC LIMIT 1"))
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // none yet is an ordinary answer
	}
	return a, err
}
