package webhook

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

var (
	// ErrNoEndpoint says that there is no such endpoint.
	ErrNoEndpoint = errors.New("there is no webhook endpoint with this id: check it, or list the endpoints")
	// ErrManyEndpoints says that there are as many endpoints as there may be.
	ErrManyEndpoints = fmt.Errorf("there are %d webhook endpoints already: delete one first", maxEndpoints)
)

const (
	maxEndpoints = 50 // each is looked at whenever something happens
	maxName      = 100
	secretBytes  = 32
)

// Subscription is an endpoint as somebody wants it.
type Subscription struct {
	Name    string
	URL     string
	Events  []string
	Secret  string            // empty: one is made
	Headers map[string]string // sent with each delivery
	Off     bool              // begin disabled
}

// EndpointChange is what is to be different; nil fields stay.
type EndpointChange struct {
	Name    *string
	URL     *string
	Events  []string
	Headers map[string]string // all of them
	Enabled *bool
}

// endpointState is what the audit log keeps of an endpoint: no secret, and of headers the names.
type endpointState struct {
	Name    string   `json:"name"`
	URL     string   `json:"url"`
	Events  []string `json:"events"`
	Headers []string `json:"headers,omitempty"`
	Enabled bool     `json:"enabled"`
}

func stateOf(e *models.WebhookEndpoint) endpointState {
	names, _ := headerNames(e.Headers) // of our own making
	return endpointState{Name: e.Name, URL: e.URL, Events: strings.Fields(e.Events), Headers: names, Enabled: e.Enabled}
}

const (
	endpointColumns = `SELECT id, name, url, events, headers, secret, old_secret, old_secret_until, rotated_at, enabled, created_by, created_at,
		updated_at FROM webhook_endpoints`
	insertEndpoint = `INSERT INTO webhook_endpoints (id, name, url, events, headers, secret, enabled, created_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)`
	updateEndpoint = `UPDATE webhook_endpoints SET name = $2, url = $3, events = $4, headers = $5, enabled = $6, updated_at = $7 WHERE id = $1`
	// What waits follows the endpoint to its new address.
	moveQueued = `UPDATE webhook_deliveries SET url = $2, available_at = CASE WHEN hold = 'held' THEN $3 ELSE available_at END, hold = NULL WHERE endpoint_id = $1 AND endpoint_id <> '' AND status = 'queued'`
	endQueued  = `UPDATE webhook_deliveries SET status = 'failed', last_error = $2, available_at = $3, hold = NULL WHERE endpoint_id = $1 AND endpoint_id <> '' AND status = 'queued'`
)

// CreateEndpoint subscribes an address. The secret is told this once.
func (s *Service) CreateEndpoint(ctx context.Context, who audit.Origin, want Subscription) (*models.WebhookEndpoint, string, error) {
	now := s.DB.NowMs()
	e := &models.WebhookEndpoint{ID: newID("whe_"), Enabled: !want.Off, CreatedBy: who.Actor, CreatedAt: now, UpdatedAt: now}
	change := EndpointChange{Name: &want.Name, URL: &want.URL, Events: want.Events, Headers: want.Headers}
	if want.Events == nil {
		change.Events = []string{}
	}
	if err := s.alter(e, change); err != nil {
		return nil, "", err
	}
	key, err := s.newSecret(want.Secret)
	if err != nil {
		return nil, "", err
	}
	if e.Secret, err = s.Box.Seal(ofEndpoint(e.ID).secret(), []byte(key)); err != nil {
		return nil, "", fmt.Errorf("seal the webhook secret: %w", err)
	}
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM webhook_endpoints", nil, &n); err != nil {
			return err
		}
		if n >= maxEndpoints {
			return ErrManyEndpoints
		}
		if _, err := tx.Exec(ctx, insertEndpoint, e.ID, e.Name, e.URL, e.Events, e.Headers, e.Secret, e.Enabled, e.CreatedBy, now); err != nil {
			return err
		}
		return s.recordEndpoint(ctx, tx, who, "webhook_endpoint.created", e.ID, nil, stateOf(e))
	})
	if err != nil {
		return nil, "", fmt.Errorf("create a webhook endpoint: %w", err)
	}
	return e, key, nil
}

// newSecret is the given one, or a new one in the form of Standard Webhooks.
func (s *Service) newSecret(given string) (string, error) {
	switch {
	case len(given) > maxSecret:
		return "", invalid("secret is longer than %d bytes", maxSecret)
	case given != "" && len(given) < 16:
		return "", invalid("secret is shorter than 16 bytes: leave it out, and one is made")
	case given != "":
		return given, nil
	}
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key), nil
}

// alter applies a change after checking it.
func (s *Service) alter(e *models.WebhookEndpoint, change EndpointChange) error {
	if change.Name != nil {
		e.Name = strings.TrimSpace(*change.Name)
		if e.Name == "" || len(e.Name) > maxName || !utf8.ValidString(e.Name) || strings.ContainsFunc(e.Name, func(r rune) bool { return r < ' ' }) {
			return invalid("name: give it one of up to %d bytes, in one line", maxName)
		}
	}
	if change.URL != nil {
		e.URL = strings.TrimSpace(*change.URL)
		if err := CheckURL(s.policy, e.URL); err != nil {
			return invalid("url: %s", err)
		}
	}
	if change.Events != nil {
		for _, event := range change.Events {
			if !slices.Contains(EventTypes(), event) {
				return invalid("events: there is no %q; choose among %s", cut(event, maxName), strings.Join(EventTypes(), ", "))
			}
		}
		if len(change.Events) == 0 {
			return invalid("events: choose at least one of %s", strings.Join(EventTypes(), ", "))
		}
		e.Events = strings.Join(slices.DeleteFunc(EventTypes(), func(event string) bool { return !slices.Contains(change.Events, event) }), " ")
	}
	if change.Enabled != nil {
		e.Enabled = *change.Enabled
	}
	if change.Headers == nil {
		return nil
	}
	headers, err := checkHeaders(change.Headers)
	if err != nil {
		return err
	}
	e.Headers, err = s.sealHeaders(ofEndpoint(e.ID), headers)
	return err
}

// cut shortens what somebody else wrote.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

// ChangeEndpoint changes what a subscription says. What waits for the endpoint goes to its new address; what is queued when it is disabled
// is still sent.
func (s *Service) ChangeEndpoint(ctx context.Context, who audit.Origin, id string, change EndpointChange) (*models.WebhookEndpoint, error) {
	return s.onEndpoint(ctx, id, func(tx *database.Tx, e *models.WebhookEndpoint) error {
		before, address := stateOf(e), e.URL
		if err := s.alter(e, change); err != nil {
			return err
		}
		e.UpdatedAt = s.DB.NowMs()
		if _, err := tx.Exec(ctx, updateEndpoint, e.ID, e.Name, e.URL, e.Events, e.Headers, e.Enabled, e.UpdatedAt); err != nil {
			return err
		}
		if e.URL != address {
			tx.AfterCommit(s.Wake)
			if _, err := tx.Exec(ctx, moveQueued, e.ID, e.URL, e.UpdatedAt); err != nil {
				return err
			}
		}
		return s.recordEndpoint(ctx, tx, who, changeName(change), e.ID, before, stateOf(e))
	})
}

// changeName is the act as the audit log calls it.
func changeName(change EndpointChange) string {
	only := change.Name == nil && change.URL == nil && change.Events == nil && change.Headers == nil
	switch {
	case only && change.Enabled != nil && *change.Enabled:
		return "webhook_endpoint.enabled"
	case only && change.Enabled != nil:
		return "webhook_endpoint.disabled"
	}
	return "webhook_endpoint.changed"
}

// DeleteEndpoint ends a subscription. What waits for it is given up, because its secret is gone; the record of its deliveries stays.
func (s *Service) DeleteEndpoint(ctx context.Context, who audit.Origin, id string) error {
	_, err := s.onEndpoint(ctx, id, func(tx *database.Tx, e *models.WebhookEndpoint) error {
		if _, err := tx.Exec(ctx, endQueued, e.ID, "the endpoint was deleted", s.DB.NowMs()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM webhook_endpoints WHERE id = $1", e.ID); err != nil {
			return err
		}
		return s.recordEndpoint(ctx, tx, who, "webhook_endpoint.deleted", e.ID, stateOf(e), nil)
	})
	return err
}

// TestEndpoint sends an event that says of itself that it is a test, once, whether the endpoint is enabled or not. It returns the delivery.
func (s *Service) TestEndpoint(ctx context.Context, who audit.Origin, id string) (deliveryID string, err error) {
	deliveryID = newID("wh_")
	_, err = s.onEndpoint(ctx, id, func(tx *database.Tx, e *models.WebhookEndpoint) error {
		now := s.DB.NowMs()
		if _, err := tx.Exec(ctx, queueForEndpoint, deliveryID, "", e.ID, EventTest, deliveryID, e.URL, string(testBody(e, now)), now, 1); err != nil {
			return err
		}
		tx.AfterCommit(s.Wake)
		return s.recordEndpoint(ctx, tx, who, "webhook_endpoint.tested", e.ID, nil, map[string]string{"delivery": deliveryID})
	})
	return deliveryID, err
}

// onEndpoint runs act on an endpoint in a transaction; on PostgreSQL it has the row to itself.
func (s *Service) onEndpoint(ctx context.Context, id string, act func(tx *database.Tx, e *models.WebhookEndpoint) error) (*models.WebhookEndpoint, error) {
	var e *models.WebhookEndpoint
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		statement := endpointColumns + " WHERE id = $1"
		if tx.Postgres() {
			statement += " FOR UPDATE"
		}
		rows, err := tx.Query(ctx, statement, id)
		if err != nil {
			return err
		}
		found, err := scanEndpoints(rows)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return ErrNoEndpoint
		}
		e = found[0]
		return act(tx, e)
	})
	switch {
	case errors.Is(err, ErrInvalid):
		return nil, err // a sentence for whoever asked
	case err != nil:
		return nil, fmt.Errorf("look after a webhook endpoint: %w", err)
	}
	return e, nil
}

func (s *Service) recordEndpoint(ctx context.Context, tx *database.Tx, who audit.Origin, action, id string, before, after any) error {
	return audit.Append(ctx, tx, audit.Entry{Origin: who, At: s.DB.NowMs(), Action: action, ObjectKind: "webhook_endpoint", Object: id, Before: before, After: after})
}

// Endpoints lists all, the newest first.
func (s *Service) Endpoints(ctx context.Context) ([]*models.WebhookEndpoint, error) {
	rows, err := s.DB.Query(ctx, endpointColumns+" ORDER BY created_at DESC, id DESC")
	if err != nil {
		return nil, fmt.Errorf("list webhook endpoints: %w", err)
	}
	return scanEndpoints(rows)
}

// Endpoint reads one; ErrNoEndpoint when there is none.
func (s *Service) Endpoint(ctx context.Context, id string) (*models.WebhookEndpoint, error) {
	rows, err := s.DB.Query(ctx, endpointColumns+" WHERE id = $1", id)
	if err != nil {
		return nil, fmt.Errorf("read a webhook endpoint: %w", err)
	}
	found, err := scanEndpoints(rows)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNoEndpoint
	}
	return found[0], nil
}

// HeaderNames are the names of the headers that an endpoint gets; their values are never told.
func HeaderNames(e *models.WebhookEndpoint) ([]string, error) { return headerNames(e.Headers) }

func scanEndpoints(rows database.Rows) ([]*models.WebhookEndpoint, error) {
	defer rows.Close()
	var all []*models.WebhookEndpoint
	for rows.Next() {
		e := &models.WebhookEndpoint{}
		if err := rows.Scan(&e.ID, &e.Name, &e.URL, &e.Events, &e.Headers, &e.Secret, &e.OldSecret, &e.OldSecretUntil, &e.RotatedAt, &e.Enabled,
			&e.CreatedBy, &e.CreatedAt, &e.UpdatedAt); err != nil {
			return nil, fmt.Errorf("read a webhook endpoint: %w", err)
		}
		all = append(all, e)
	}
	return all, rows.Err()
}
