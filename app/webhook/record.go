package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

// record is what is written about one claimed delivery, in one transaction with its neighbours.
type record struct {
	claimed     lease.Claimed
	status      string
	availableAt int64
	receiver    string // the host
	seen        *seen  // what the attempt told about the host; nil: nothing
	test        bool

	// Of an attempt; nil when the delivery is only put back, which gives the attempt back too: at once, or aside until its host is open.
	ended *ended
	aside bool

	ours bool   // out: the lease still held
	left string // out: the status that was written
}

type ended struct {
	attempt     *models.WebhookAttempt            // nil when nothing could be sent
	event       func(status string) *models.Event // nil when the delivery is gone
	lastStatus  *int
	lastError   *string
	lastClass   string
	latency     *int64
	deliveredAt *int64
}

// place is where a record leaves its delivery.
type place struct {
	status      string
	availableAt int64
	hold        *string
	more        int // attempts beyond the budget
}

// place holds what found nobody at a host that is paused: it costs none of its attempts if it was a probe, and it is not given up.
func (r *record) place(h *models.WebhookHost) place {
	p := place{status: r.status, availableAt: r.availableAt}
	aside := r.aside && h != nil && h.State != Open
	lost := r.seen != nil && r.seen.dead && !r.test && h != nil && h.State == Paused
	if !aside && !lost {
		return p
	}
	held := Held
	p.status, p.availableAt, p.hold = Queued, never, &held
	if lost && (r.seen.probe || r.claimed.Attempt >= r.claimed.MaxAttempts) {
		p.more = 1
	}
	return p
}

const (
	giveBack    = `UPDATE webhook_deliveries SET attempt = attempt - 1 WHERE id = $1`
	setAside    = `UPDATE webhook_deliveries SET attempt = attempt - 1, hold = $2 WHERE id = $1`
	noteOutcome = `UPDATE webhook_deliveries SET last_status = $1, last_error = $2, delivered_at = $3, last_class = $4,
		last_latency_ms = $5, hold = $6, max_attempts = max_attempts + $7 WHERE id = $8`
	storeAttempt = `INSERT INTO webhook_attempts (id, delivery_id, execution_id, endpoint_id, attempt, http_status, error, error_class, latency_ms,
		response_body, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
)

// write is the group's transaction. A record whose lease is gone writes nothing but how its host is doing.
func (s *Service) write(ctx context.Context, tx *database.Tx, records []*record) error {
	hosts, err := s.observeAll(ctx, tx, records)
	if err != nil {
		return err
	}
	var events []*models.Event
	for _, r := range records {
		p := r.place(hosts[r.receiver])
		r.left = p.status
		if r.ours, err = s.queue.Settle(ctx, tx, r.claimed, p.status, p.availableAt); err != nil {
			return fmt.Errorf("settle a webhook delivery: %w", err)
		}
		if !r.ours {
			continue
		}
		if err := r.write(ctx, tx, p); err != nil {
			return err
		}
		if r.ended != nil && r.ended.event != nil {
			events = append(events, r.ended.event(p.status))
		}
		if p.status == Queued && (r.ended != nil || r.aside) {
			tx.AfterCommit(s.worker.Wake) // so that the worker learns when the next attempt is due
		}
	}
	return s.Events.Append(ctx, tx, events...)
}

func (r *record) write(ctx context.Context, tx *database.Tx, p place) error {
	id := r.claimed.ID
	if r.ended != nil {
		return writeEnded(ctx, tx, id, r.ended, p)
	}
	statement, args := giveBack, []any{id}
	if r.aside {
		statement, args = setAside, []any{id, p.hold}
	}
	if _, err := tx.Exec(ctx, statement, args...); err != nil {
		return fmt.Errorf("put a webhook delivery back: %w", err)
	}
	return nil
}

func writeEnded(ctx context.Context, tx *database.Tx, id string, e *ended, p place) error {
	if _, err := tx.Exec(ctx, noteOutcome, e.lastStatus, e.lastError, e.deliveredAt, e.lastClass, e.latency, p.hold, p.more, id); err != nil {
		return fmt.Errorf("note the outcome of a webhook: %w", err)
	}
	if a := e.attempt; a != nil {
		_, err := tx.Exec(ctx, storeAttempt, a.ID, a.DeliveryID, a.ExecutionID, a.EndpointID, a.Attempt, a.HTTPStatus, a.Error, a.ErrorClass,
			a.LatencyMs, a.ResponseBody, a.At)
		if err != nil {
			return fmt.Errorf("record a webhook attempt: %w", err)
		}
	}
	return nil
}

// settle decides what follows from the outcome and writes it.
func (s *Service) settle(ctx context.Context, c lease.Claimed, m message, o outcome) {
	r := &record{claimed: c, receiver: m.receiver, test: m.event == EventTest}
	now := s.DB.Now()
	r.status, r.availableAt = s.next(c, o, now)
	r.ended = &ended{lastStatus: o.status, lastError: optional(clean(o.text)), lastClass: o.word()}
	if r.status == Delivered {
		at := now.UnixMilli()
		r.ended.deliveredAt = &at
	}
	if o.class != classUnsendable {
		took := o.took.Milliseconds()
		r.ended.latency = &took
		r.ended.attempt = attemptRow(c, m, o)
		if o.class != classBlocked { // which tells of our policy, not of the host
			r.seen = &seen{dead: o.dead(), probe: m.released && m.state == Paused, text: clean(o.text)}
		}
	}
	if m.url != "" {
		r.ended.event = func(status string) *models.Event { return attemptEvent(c, m, o, status, now) }
	}
	if s.store(ctx, r) {
		s.metrics.settled(o, r.left)
		if r.left == Failed {
			s.Log.Warn("a webhook was given up", "execution_id", m.execution.ID, "delivery_id", c.ID, "attempts", c.Attempt, "error", clean(o.text))
		}
	}
}

// next is the status after an attempt and, for a further one, its time: 5 s · 2ⁿ⁻¹ ± 20 %, or later if the receiver asks for it, but
// never more than the longest pause.
func (s *Service) next(c lease.Claimed, o outcome, now time.Time) (status string, availableAt int64) {
	switch {
	case o.class == "":
		return Delivered, now.UnixMilli()
	case o.final || c.Attempt >= c.MaxAttempts:
		return Failed, now.UnixMilli()
	}
	failures := c.Attempt - max(c.MaxAttempts-s.maxAttempts, 0) // a manual redelivery begins the schedule anew
	delay := max(s.backoff.Delay(failures), o.retryAfter)
	return Queued, now.Add(min(delay, s.backoff.Max)).UnixMilli()
}

func attemptRow(c lease.Claimed, m message, o outcome) *models.WebhookAttempt {
	return &models.WebhookAttempt{
		ID: newID("wha_"), DeliveryID: c.ID, ExecutionID: m.execution.ID, EndpointID: m.endpoint, Attempt: c.Attempt,
		HTTPStatus: o.status, Error: optional(clean(o.text)), ErrorClass: optional(o.class),
		LatencyMs: o.took.Milliseconds(), ResponseBody: optional(o.response), At: o.at.UnixMilli(),
	}
}

// attemptData is the data of the event, read by the execution's timeline.
type attemptData struct {
	DeliveryID string `json:"delivery_id"`
	Attempt    int    `json:"attempt"`
	Status     string `json:"status"` // of the delivery, after the attempt
	HTTPStatus *int   `json:"http_status,omitempty"`
	ErrorClass string `json:"error_class,omitempty"`
}

func attemptEvent(c lease.Claimed, m message, o outcome, status string, now time.Time) *models.Event {
	data, _ := json.Marshal(attemptData{c.ID, c.Attempt, status, o.status, o.class}) // plain fields always encode
	e := m.execution
	happened := &models.Event{NodeID: e.NodeID, Kind: event.KindDelivery, Attempt: e.Attempt, At: now.UnixMilli(), Data: optional(string(data))}
	if e.ID != "" { // else a test, which is about no execution
		happened.ExecutionID, happened.RunID = &e.ID, optional(e.RunID)
	}
	return happened
}

// putBack returns the delivery to the queue as if it had not been claimed.
func (s *Service) putBack(ctx context.Context, c lease.Claimed, later time.Duration) {
	if s.store(ctx, &record{claimed: c, status: Queued, availableAt: s.DB.Now().Add(later).UnixMilli()}) {
		s.metrics.putBack.Inc()
	}
}

// store writes the record and reports whether it was still ours to write. A database that is away is waited for, because an answer
// that is not recorded means another delivery; when we are stopping there is one try more.
func (s *Service) store(ctx context.Context, r *record) bool {
	err := s.patiently(ctx, "record a webhook attempt", func() error {
		return s.records.Do(context.WithoutCancel(ctx), r)
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		s.Log.Error("a webhook attempt was not recorded; it will be repeated", "delivery_id", r.claimed.ID, "error", err)
	}
	return err == nil && r.ours
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// clean makes error texts fit for both databases.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
}

// newID is a prefix with 32 hexadecimal digits that sort by time.
func newID(prefix string) string {
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.New() // out of randomness for the time-ordered form: order is a convenience
	}
	return prefix + strings.ReplaceAll(id.String(), "-", "")
}
