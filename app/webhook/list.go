package webhook

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// ErrUnknown says that there is no such delivery.
var ErrUnknown = errors.New("there is no webhook delivery with this id: check it, or list webhooks")

// The states of a delivery as people see them (models.WebhookDelivery.State), beside Delivered and Failed.
const (
	Pending  = "pending"
	Retrying = "retrying"
	Held     = "held" // until its host is open again
)

// States and Classes are what lists can be filtered by.
func States() []string { return []string{Pending, Retrying, Held, Delivered, Failed} }

// Classes are the words for the last response: an answer's first digit, or why there was none.
func Classes() []string {
	return []string{"2xx", "3xx", "4xx", "5xx", classTimeout, classDNS, classTLS, classRefused, classConnection, classBlocked}
}

// Filter narrows a list of deliveries. Empty fields do not.
type Filter struct {
	State     string // one of States
	Class     string // one of Classes: the last response
	Host      string // with its port where the URL has one
	Event     string
	Execution string
	Endpoint  string // id
	Waiting   bool   // those alone that would be tried again
	Since     int64  // ms: created then or later
	Until     int64  // ms: created before
	Cursor    string
	Limit     int
}

const (
	defaultPage  = 25
	maxPage      = 200
	countedNewer = 100
	// CountLimit bounds counts: at this figure there are that many or more.
	CountLimit = 1000
)

// The expressions of the indexes webhook_deliveries_state and webhook_deliveries_host, word for word: without that they cannot be used.
// The question mark is written as its number, because GORM takes a plain one for the place of a value.
const (
	stateIs    = "CASE WHEN status = 'delivered' OR status = 'failed' THEN status WHEN hold = 'held' THEN 'held' WHEN last_class IS NULL THEN 'pending' ELSE 'retrying' END"
	hostIs     = "lower(split_part(split_part(split_part(url, '://', 2), '/', 1), chr(63), 1))"
	hostIsLite = "lower(substr(url, instr(url, '://') + 3, instr(replace(substr(url, instr(url, '://') + 3), char(63), '/') || '/', '/') - 1))"
)

// Page is one page of deliveries, newest first.
type Page = database.Page[*models.WebhookDelivery]

// List reads a page. database.ErrBadCursor when no page gave the cursor.
func (s *Service) List(ctx context.Context, f Filter) (Page, error) {
	limit := f.Limit
	if limit <= 0 || limit > maxPage {
		limit = defaultPage
	}
	place := func(d *models.WebhookDelivery) database.Place {
		return database.Place{CreatedAt: d.CreatedAt, ID: d.ID}
	}
	page, err := database.ReadPage(s.filtered(ctx, f), f.Cursor, limit, place)
	if err != nil {
		return Page{}, fmt.Errorf("list webhook deliveries: %w", err)
	}
	return page, nil
}

// hostIs is the expression for the host of a delivery.
func (s *Service) hostIs() string {
	if s.DB.Postgres() {
		return hostIs
	}
	return hostIsLite
}

func (s *Service) filtered(ctx context.Context, f Filter) *gorm.DB {
	q := s.DB.Gorm(ctx).Model(&models.WebhookDelivery{})
	host := s.hostIs()
	for _, c := range []struct{ is, value string }{
		{stateIs, f.State}, {"last_class", f.Class}, {host, strings.ToLower(f.Host)}, {"event", f.Event}, {"execution_id", f.Execution},
	} {
		if c.value != "" {
			q = q.Where("("+c.is+") = ?", c.value)
		}
	}
	if f.Waiting {
		q = q.Where("status = 'queued'")
	}
	if f.Endpoint != "" {
		q = q.Where("endpoint_id = ? AND endpoint_id <> ''", f.Endpoint) // the condition of its index, word for word
	}
	if f.Since > 0 {
		q = q.Where("created_at >= ?", f.Since)
	}
	if f.Until > 0 {
		q = q.Where("created_at < ?", f.Until)
	}
	return q
}

// Rows reads deliveries by id, newest first.
func (s *Service) Rows(ctx context.Context, ids []string) ([]*models.WebhookDelivery, error) {
	var rows []*models.WebhookDelivery
	if err := s.DB.Gorm(ctx).Where("id IN ?", ids).Order("created_at DESC, id DESC").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read webhook deliveries: %w", err)
	}
	return rows, nil
}

// Delivery reads one; ErrUnknown when there is none.
func (s *Service) Delivery(ctx context.Context, id string) (*models.WebhookDelivery, error) {
	rows, err := s.Rows(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, ErrUnknown
	}
	return rows[0], nil
}

// Newer counts what a filter finds that is newer than a delivery, at most 100.
func (s *Service) Newer(ctx context.Context, f Filter, after string) (n int, more bool, err error) {
	q := s.filtered(ctx, f)
	if after != "" {
		d, err := s.Delivery(ctx, after)
		if errors.Is(err, ErrUnknown) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		q = q.Where("(created_at, id) > (?, ?)", d.CreatedAt, d.ID)
	}
	var ids []string
	if err := q.Order("created_at, id").Limit(countedNewer+1).Pluck("id", &ids).Error; err != nil {
		return 0, false, fmt.Errorf("count newer webhook deliveries: %w", err)
	}
	return min(len(ids), countedNewer), len(ids) > countedNewer, nil
}

// Counts are the deliveries that are not delivered, each figure up to CountLimit.
type Counts struct{ Pending, Retrying, Held, Failed int }

// Count counts along the index of the states.
func (s *Service) Count(ctx context.Context) (Counts, error) {
	var c Counts
	one := "(SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE (" + stateIs + ") = '%s' LIMIT %d) t)"
	statement := fmt.Sprintf("SELECT "+one+", "+one+", "+one+", "+one, Pending, CountLimit, Retrying, CountLimit, Held, CountLimit, Failed, CountLimit)
	if err := s.DB.QueryRow(ctx, statement, nil, &c.Pending, &c.Retrying, &c.Held, &c.Failed); err != nil {
		return c, fmt.Errorf("count webhook deliveries: %w", err)
	}
	return c, nil
}
