package webhook

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

// Registration is what a caller registered, without what must stay secret.
type Registration struct {
	URL     string
	Headers []string // names only
	Signed  bool     // there is a secret
}

const (
	selectRegistration = "SELECT url, headers, COALESCE(length(secret), 0) > 0 FROM webhook_registrations WHERE execution_id = $1"
	selectSubscription = "SELECT url, headers, COALESCE(length(secret), 0) > 0 FROM webhook_endpoints WHERE id = $1"
)

// Registration reads that of a delivery; ErrNoDelivery when it is gone.
func (s *Service) Registration(ctx context.Context, d *models.WebhookDelivery) (Registration, error) {
	var r Registration
	var headers *string
	statement, id := selectRegistration, d.ExecutionID
	if d.EndpointID != "" {
		statement, id = selectSubscription, d.EndpointID
	}
	err := s.DB.QueryRow(ctx, statement, []any{id}, &r.URL, &headers, &r.Signed)
	if errors.Is(err, database.ErrNoRows) {
		return r, ErrNoDelivery
	}
	if err != nil {
		return r, fmt.Errorf("read a webhook registration: %w", err)
	}
	r.Headers, err = headerNames(headers)
	return r, err
}

// headerNames are the names of the column headers.
func headerNames(column *string) ([]string, error) {
	if column == nil {
		return nil, nil
	}
	var sealed map[string]string
	if err := json.Unmarshal([]byte(*column), &sealed); err != nil {
		return nil, fmt.Errorf("read the webhook headers: %w", err)
	}
	return slices.Sorted(maps.Keys(sealed)), nil
}

// Plan is when the attempts that are still left take place if all of them fail, in ms. Pauses are those of the schedule, without their
// spread; the first is exact.
func (s *Service) Plan(d *models.WebhookDelivery) []int64 {
	if d.Status == Delivered || d.Status == Failed || d.Held() {
		return nil
	}
	schedule := lease.Backoff{First: s.backoff.First, Max: s.backoff.Max, Jitter: -1}
	at := max(d.AvailableAt, s.DB.NowMs())
	first := d.Attempt + 1
	var times []int64
	if d.Status == Queued && first <= d.MaxAttempts {
		times = append(times, at)
		first++
	}
	for n := first; n <= d.MaxAttempts; n++ {
		failures := n - 1 - max(d.MaxAttempts-s.maxAttempts, 0)
		at += schedule.Delay(failures).Milliseconds()
		times = append(times, at)
	}
	return times
}

// SignedText is what the signature of Standard Webhooks is made over, but for the body that follows it.
func SignedText(id string, at time.Time) string {
	return id + "." + strconv.FormatInt(at.Unix(), 10) + "."
}

// Snippet is how a receiver verifies a delivery, in one language.
type Snippet struct{ Language, Text string }

//go:embed verify
var snippets embed.FS

// Snippets are the ways to verify a delivery. Each is run by a test on a real one.
func Snippets() ([]Snippet, error) {
	var all []Snippet
	for _, s := range []struct{ language, file string }{{"Python", "verify.py"}, {"JavaScript", "verify.mjs"}, {"Go", "verify.go.txt"}} {
		text, err := snippets.ReadFile("verify/" + s.file)
		if err != nil {
			return nil, fmt.Errorf("read the way to verify in %s: %w", s.language, err)
		}
		all = append(all, Snippet{s.language, string(text)})
	}
	return all, nil
}
