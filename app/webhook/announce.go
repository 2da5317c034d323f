package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// subscriber is an enabled endpoint as far as it matters for what is to be announced.
type subscriber struct {
	id, url string
	events  []string
}

func (s subscriber) wants(event string) bool { return slices.Contains(s.events, event) }

const (
	selectSubscribers = `SELECT id, url, events FROM webhook_endpoints WHERE enabled ORDER BY id`
	queueForEndpoint  = `INSERT INTO webhook_deliveries (id, execution_id, endpoint_id, event, subject, url, body, status, available_at, attempt,
		max_attempts, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'queued', $8, 0, $9, $8)
		ON CONFLICT (execution_id, event, url, endpoint_id, subject) DO NOTHING`
)

// Announce queues, in the transaction that ends executions or makes them wait, what goes to the endpoints that have subscribed: rows are
// the executions as they are then. Who is subscribed is read in that transaction, so that nothing is announced twice or missed.
func (s *Service) Announce(ctx context.Context, tx *database.Tx, rows []*models.Execution, now int64) error {
	all, err := subscribers(ctx, tx)
	if err != nil || len(all) == 0 {
		return err
	}
	for _, e := range rows {
		for _, to := range all {
			if event := wanted(to, e.Status); event != "" {
				if err := s.queueFor(ctx, tx, to, announcementOf(event, e, now)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// AnnounceApproval does the same for what happens to a request for a decision; body is only called when somebody wants it.
func (s *Service) AnnounceApproval(ctx context.Context, tx *database.Tx, event string, a *models.Approval, body func() ([]byte, error)) error {
	all, err := subscribers(ctx, tx)
	all = slices.DeleteFunc(all, func(to subscriber) bool { return !to.wants(event) })
	if err != nil || len(all) == 0 {
		return err
	}
	text, err := body()
	if err != nil {
		return err
	}
	kept := string(text)
	for _, to := range all {
		if err := s.queueFor(ctx, tx, to, announcement{event: event, execution: a.ExecutionID, subject: a.ID, body: &kept, at: s.DB.NowMs()}); err != nil {
			return err
		}
	}
	return nil
}

// wanted is the event under which an endpoint learns of a status: the most exact that it has subscribed to, empty when none.
func wanted(to subscriber, status models.Status) string {
	var candidates []string
	switch status {
	case models.Waiting:
		candidates = []string{EventWaiting}
	case models.Cancelled:
		candidates = []string{EventCancelled, EventFailed}
	case models.Timeout:
		candidates = []string{EventTimeout, EventFailed}
	default:
		candidates = []string{EventFor(status)}
	}
	for _, event := range candidates {
		if to.wants(event) {
			return event
		}
	}
	return ""
}

// announcement is a delivery to be.
type announcement struct {
	event, execution, subject string
	body                      *string
	at                        int64
}

func announcementOf(event string, e *models.Execution, now int64) announcement {
	a := announcement{event: event, execution: e.ID, at: now}
	if event == EventWaiting {
		body := string(waitingBody(e, now))
		a.body, a.subject = &body, fmt.Sprintf("%d.%d", e.Attempt, now)
	}
	return a
}

func (s *Service) queueFor(ctx context.Context, tx *database.Tx, to subscriber, a announcement) error {
	_, err := tx.Exec(ctx, queueForEndpoint, newID("wh_"), a.execution, to.id, a.event, a.subject, to.url, a.body, a.at, s.maxAttempts)
	if err != nil {
		return fmt.Errorf("queue a webhook for %s: %w", to.id, err)
	}
	tx.AfterCommit(s.Wake)
	return nil
}

func subscribers(ctx context.Context, tx *database.Tx) ([]subscriber, error) {
	rows, err := tx.Query(ctx, selectSubscribers)
	if err != nil {
		return nil, fmt.Errorf("read the webhook endpoints: %w", err)
	}
	defer rows.Close()
	var all []subscriber
	for rows.Next() {
		var to subscriber
		var events string
		if err := rows.Scan(&to.id, &to.url, &events); err != nil {
			return nil, fmt.Errorf("read a webhook endpoint: %w", err)
		}
		to.events = strings.Fields(events)
		all = append(all, to)
	}
	return all, rows.Err()
}
