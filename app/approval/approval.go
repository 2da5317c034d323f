// Package approval lets people decide where an agent waits for them: it asks, keeps every round, takes one decision and sees that the
// agent gets it. Its invariant: a request is decided once. The decision, its audit entry, the move of the execution and the word to the
// agent are one transaction; whoever comes later learns who was faster.
package approval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/app/payload"
	"github.com/agentfield/agentfield/models"
)

// What callers are told.
var (
	ErrNotFound    = errors.New("there is no approval request with this id")
	ErrIDInUse     = errors.New("another open request has this approval_request_id: choose a new one")
	ErrNotYours    = errors.New("this execution belongs to another node")
	ErrNoRight     = errors.New("deciding needs the right to approve; ask an administrator for the role reviewer")
	ErrAgent       = errors.New("agents cannot decide: a person has to")
	ErrNotNamed    = errors.New("the policy of this request names other reviewers")
	ErrSelf        = errors.New("whoever started this execution may not decide about it")
	ErrNothingHeld = errors.New("there is no decision of yours to withdraw: it has taken effect, or was never made")
)

// DecidedError says that somebody was faster, or time was. Approval is what stands.
type DecidedError struct{ Approval *models.Approval }

func (e *DecidedError) Error() string {
	a := e.Approval
	switch {
	case a.Status == models.ApprovalExpired:
		return "this request has expired"
	case a.Status == models.ApprovalWithdrawn:
		return "the execution has ended; there is nothing to decide any more"
	case a.DecidedBy != nil && a.DecidedAt != nil:
		return fmt.Sprintf("already decided by %s at %s", *a.DecidedBy, time.UnixMilli(*a.DecidedAt).UTC().Format(time.RFC3339))
	}
	return "this request has changed since you looked at it: look again"
}

// FieldError is a field of a request or decision that cannot be accepted, in a sentence.
type FieldError struct{ Field, Message string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

func field(name, format string, args ...any) error {
	return &FieldError{Field: name, Message: fmt.Sprintf(format, args...)}
}

// Options are the parts and settings.
type Options struct {
	DB         *database.DB
	Events     *event.Log
	Executions *execution.Service
	Codec      *payload.Codec
	Log        *slog.Logger

	PublicURL     func() string // of this server, for the pages of requests that name none
	DefaultExpiry time.Duration // of requests that name none
	OnReject      string        // resume or cancel, where the request does not say
	OnExpire      string
	Grace         time.Duration // how long a decision waits for its agent before the execution is ended
	Hold          time.Duration // between a decision in the dashboard and its effect
	// CheckCallback refuses addresses that a decision must not be posted to.
	CheckCallback func(url string) error
	// Announce, if set, is called in the transaction that requests, decides or expires: for notifications.
	Announce func(ctx context.Context, tx *database.Tx, kind string, a *models.Approval) error
}

// Service asks and takes decisions.
type Service struct {
	Options
	loops lease.Loops
	due   *lease.Loop
}

// New wires the service.
func New(o Options) *Service {
	s := &Service{Options: o}
	s.due = &lease.Loop{Name: "approvals due", Every: time.Second, Do: s.sweep, Log: o.Log}
	s.loops = lease.Loops{s.due, {Name: "decisions not taken", Every: 15 * time.Second, Do: s.sweepUntold, Log: o.Log}}
	return s
}

// Start begins to expire requests and to carry out decisions that were held.
func (s *Service) Start() {
	s.loops.Start()
}

// Stop ends the background loops.
func (s *Service) Stop() {
	s.loops.Stop()
}

// Loops are the background loops, for supervision.
func (s *Service) Loops() lease.Loops { return s.loops }

const columns = `id, request_id, execution_id, run_id, node_id, function, session_id, actor_id, round, status, version, title, summary, risk, next,
	shape, editable, has_form, url, callback, policy, quorum, on_reject, on_expire, created_at, expires_at, claimed_by, claimed_until, held_until,
	decision, decided_by, channel, feedback, response, decided_at, closed_at, told_at, started_by`

func scan(rows database.Rows) (*models.Approval, error) {
	a := &models.Approval{}
	err := rows.Scan(&a.ID, &a.RequestID, &a.ExecutionID, &a.RunID, &a.NodeID, &a.Function, &a.SessionID, &a.ActorID, &a.Round, &a.Status, &a.Version,
		&a.Title, &a.Summary, &a.Risk, &a.Next, &a.Shape, &a.Editable, &a.HasForm, &a.URL, &a.Callback, &a.Policy, &a.Quorum, &a.OnReject, &a.OnExpire,
		&a.CreatedAt, &a.ExpiresAt, &a.ClaimedBy, &a.ClaimedUntil, &a.HeldUntil, &a.Decision, &a.DecidedBy, &a.Channel, &a.Feedback, &a.Response,
		&a.DecidedAt, &a.ClosedAt, &a.ToldAt, &a.StartedBy)
	return a, err
}

func collect(rows database.Rows, err error) ([]*models.Approval, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []*models.Approval
	for rows.Next() {
		a, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

func first(rows database.Rows, err error) (*models.Approval, error) {
	list, err := collect(rows, err)
	if err != nil {
		return nil, fmt.Errorf("read an approval request: %w", err)
	}
	if len(list) == 0 {
		return nil, ErrNotFound
	}
	return list[0], nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// happened appends the event that lets pages look again.
func (s *Service) happened(ctx context.Context, tx *database.Tx, a *models.Approval, now int64) error {
	data := map[string]any{"approval_id": a.ID, "approval_request_id": a.RequestID, "status": string(a.Status), "round": a.Round}
	if a.Decision != nil && !a.Status.Open() {
		data["decision"] = *a.Decision
	}
	if a.DecidedBy != nil {
		data["by"] = *a.DecidedBy
	}
	if a.Feedback != nil && !a.Status.Open() {
		data["feedback"] = *a.Feedback
	}
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write the event of an approval: %w", err)
	}
	return s.Events.Append(ctx, tx, &models.Event{
		ExecutionID: &a.ExecutionID, RunID: &a.RunID, NodeID: a.NodeID, Kind: event.KindApproval, At: now, Data: optional(string(text)),
	})
}

func (s *Service) announce(ctx context.Context, tx *database.Tx, kind string, a *models.Approval) error {
	if s.Announce == nil {
		return nil
	}
	return s.Announce(ctx, tx, kind, a)
}

func entry(origin audit.Origin, action string, a *models.Approval, now int64, reason string) audit.Entry {
	after := map[string]any{"status": string(a.Status), "execution_id": a.ExecutionID, "approval_request_id": a.RequestID, "round": a.Round}
	return audit.Entry{Origin: origin, At: now, Action: action, ObjectKind: "approval", Object: a.ID, After: after, Reason: reason}
}
