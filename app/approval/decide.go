package approval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// Decision is what a person, or the clock, has decided.
type Decision struct {
	Word     models.ApprovalStatus // Approved, Rejected or ChangesRequested
	Feedback string
	Response []byte // JSON: answers to the form
	Edited   []byte // JSON: the payload as it is approved; nil: unchanged
	Version  int    // the one the person has seen; 0: any
	Hold     bool   // takes effect after a moment, in which its author may withdraw it
	// FeedbackRequired asks for a reason with a rejection and a request for changes: the dashboard does, the API does not.
	FeedbackRequired bool
}

const maxFeedback = 16 << 10

// ReadDecision reads a decision word and its synonyms (wire.md 5.4); ok is false for everything else. A missing word never approves.
func ReadDecision(word string) (models.ApprovalStatus, bool) {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "approved", "approve", "continue", "confirm":
		return models.Approved, true
	case "rejected", "reject", "deny", "abort", "cancel":
		return models.Rejected, true
	case "request_changes":
		return models.ChangesRequested, true
	case "expired":
		return models.ApprovalExpired, true
	}
	return "", false
}

// Outcome is what a decision led to. Repeated says that it stood already: the same word by the same person.
type Outcome struct {
	Approval *models.Approval
	Repeated bool
}

// Decide records one decision. The person has been recognised, not yet authorised. Errors: *FieldError, the refusals of Allowed,
// *DecidedError with what stands, ErrNotFound.
func (s *Service) Decide(ctx context.Context, who Person, id string, d Decision) (Outcome, error) {
	a, err := s.Get(ctx, id)
	if err != nil {
		return Outcome{}, err
	}
	if err := Allowed(who, a); err != nil {
		return Outcome{Approval: a}, s.refused(ctx, who, a, d, err)
	}
	if !a.Status.Open() {
		return Outcome{a, true}, s.tooLate(ctx, who, a, d)
	}
	if err := s.checkDecision(ctx, a, d); err != nil {
		return Outcome{Approval: a}, err
	}
	var after *models.Approval
	err = s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		if err := s.lock(ctx, tx, a); err != nil {
			return err
		}
		after, err = s.decide(ctx, tx, who, a, d)
		return err
	})
	if late, ok := errors.AsType[*DecidedError](err); ok {
		stands, err := s.expired(ctx, late.Approval)
		if err != nil {
			return Outcome{}, err
		}
		return Outcome{stands, true}, s.tooLate(ctx, who, stands, d)
	}
	if err != nil {
		return Outcome{}, err
	}
	s.due.Wake()
	return Outcome{Approval: after}, nil
}

// lock takes the execution before its request: what moves executions takes them in this order too.
func (s *Service) lock(ctx context.Context, tx *database.Tx, a *models.Approval) error {
	if _, err := s.Executions.Lock(ctx, tx, a.ExecutionID); err != nil && !errors.Is(err, execution.ErrNotFound) {
		return err
	}
	return nil
}

// expired is a request as it stands, closed if its time was over and nobody had noticed.
func (s *Service) expired(ctx context.Context, a *models.Approval) (*models.Approval, error) {
	if a.Status != models.ApprovalPending || a.ExpiresAt > s.DB.NowMs() {
		return a, nil
	}
	if err := s.close(ctx, a, expire); err != nil {
		return nil, err
	}
	return s.Get(ctx, a.ID)
}

// refused keeps in the audit log that somebody tried.
func (s *Service) refused(ctx context.Context, who Person, a *models.Approval, d Decision, why error) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		return audit.Append(ctx, tx, entry(who.Origin, "approval.refused", a, s.DB.NowMs(), string(d.Word)+": "+why.Error()))
	})
	if err != nil {
		return fmt.Errorf("record a refused decision: %w", err)
	}
	return why
}

// tooLate answers a decision on a request that is closed: an identical repeat by the same person is no error.
func (s *Service) tooLate(ctx context.Context, who Person, a *models.Approval, d Decision) error {
	if a.Decision != nil && *a.Decision == string(d.Word) && a.DecidedBy != nil && *a.DecidedBy == who.Name {
		return nil
	}
	return s.refused(ctx, who, a, d, &DecidedError{Approval: a})
}

func (s *Service) checkDecision(ctx context.Context, a *models.Approval, d Decision) error {
	if len(d.Feedback) > maxFeedback {
		return field("feedback", "is longer than %d bytes", maxFeedback)
	}
	if !utf8.ValidString(d.Feedback) || strings.ContainsRune(d.Feedback, 0) {
		return field("feedback", "is not valid text")
	}
	if d.FeedbackRequired && d.Word != models.Approved && strings.TrimSpace(d.Feedback) == "" {
		return field("feedback", "say why: the agent gets these words")
	}
	if d.Edited != nil {
		if !a.Editable {
			return field("edited", "the agent does not accept an edited payload")
		}
		if d.Word != models.Approved {
			return field("edited", "an edited payload goes with an approval")
		}
		if a.Quorum > 1 {
			return field("edited", "several people approve this: what they have agreed to cannot be edited by one of them; request changes instead")
		}
		if !isJSON(d.Edited) {
			return field("edited", "is not valid JSON of at most %d bytes", maxBody)
		}
	}
	return s.checkResponse(ctx, a, d)
}

func (s *Service) checkResponse(ctx context.Context, a *models.Approval, d Decision) error {
	if d.Response != nil && !isJSON(d.Response) {
		return field("response", "is not valid JSON of at most %d bytes", maxBody)
	}
	if !a.HasForm || d.Word != models.Approved {
		return nil
	}
	body, err := s.Body(ctx, a.ID)
	if err != nil {
		return err
	}
	schema, err := compileForm(body.Form)
	if err != nil {
		return err
	}
	answers := d.Response
	if answers == nil {
		answers = []byte("{}")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(answers))
	if err != nil {
		return field("response", "is not valid JSON")
	}
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](schema.Validate(doc)); ok {
		return answerError(invalid)
	}
	return nil
}

// answerError names the first answer that does not fit.
func answerError(e *jsonschema.ValidationError) error {
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	name := "response"
	if len(e.InstanceLocation) > 0 {
		name = "answer." + e.InstanceLocation[0]
	}
	message := e.Error()
	if i := strings.LastIndex(message, ": "); i >= 0 {
		message = message[i+2:]
	}
	return field(name, "%s", message)
}

// decide is the compare-and-set and everything that follows from it.
func (s *Service) decide(ctx context.Context, tx *database.Tx, who Person, a *models.Approval, d Decision) (*models.Approval, error) {
	now := s.DB.NowMs()
	if d.Word == models.Approved && a.Quorum > 1 {
		enough, after, err := s.vote(ctx, tx, who, a, d, now)
		if err != nil || !enough {
			return after, err
		}
	}
	hold := time.Duration(0)
	if d.Hold && a.ExpiresAt-now >= time.Minute.Milliseconds() {
		hold = s.Hold
	}
	after, err := s.compareAndSet(ctx, tx, who, a, d, now, hold)
	if err != nil {
		return nil, err
	}
	if a.Editable { // without an edit too: its author may have held one before
		if _, err := tx.Exec(ctx, "UPDATE approval_bodies SET edited = $1 WHERE approval_id = $2", orNull(d.Edited), a.ID); err != nil {
			return nil, fmt.Errorf("store the edited payload: %w", err)
		}
	}
	action := "approval." + string(d.Word)
	if after.Status == models.ApprovalHeld {
		action = "approval.held"
	}
	follow := s.takeEffect
	if after.Status == models.ApprovalHeld {
		follow = s.happened
	}
	if err := follow(ctx, tx, after, now); err != nil {
		return nil, err
	}
	return after, audit.Append(ctx, tx, entry(who.Origin, action, after, now, d.Feedback))
}

const decideOpen = `UPDATE approvals SET status = $1, version = version + 1, decision = $2, decided_by = $3, channel = $4, feedback = $5, response = $6,
	decided_at = $7, held_until = $8, closed_at = $9, claimed_by = NULL, claimed_until = NULL
	WHERE id = $10 AND closed_at IS NULL AND (status = 'pending' OR (status = 'held' AND decided_by = $3)) AND expires_at > $7 AND ($11 = 0 OR version = $11)
	RETURNING ` + columns

func (s *Service) compareAndSet(ctx context.Context, tx *database.Tx, who Person, a *models.Approval, d Decision, now int64, hold time.Duration) (*models.Approval, error) {
	status, held, closed := string(d.Word), (*int64)(nil), &now
	if hold > 0 {
		due := now + hold.Milliseconds()
		status, held, closed = string(models.ApprovalHeld), &due, nil
	}
	var response *string
	if d.Response != nil {
		response = optional(string(d.Response))
	}
	after, err := first(tx.Query(ctx, decideOpen, status, string(d.Word), who.Name, who.Origin.Channel, optional(d.Feedback), response, now, held, closed,
		a.ID, d.Version))
	if !errors.Is(err, ErrNotFound) {
		return after, err
	}
	stands, err := first(tx.Query(ctx, "SELECT "+columns+" FROM approvals WHERE id = $1", a.ID))
	if err != nil {
		return nil, err
	}
	return nil, &DecidedError{Approval: stands}
}

// vote adds one voice; enough reports whether with it the quorum is there. The version stays: what the others look at has not changed.
func (s *Service) vote(ctx context.Context, tx *database.Tx, who Person, a *models.Approval, d Decision, now int64) (bool, *models.Approval, error) {
	stands, err := first(tx.Query(ctx, `UPDATE approvals SET version = version WHERE id = $1 AND status = 'pending' AND expires_at > $2
		AND ($3 = 0 OR version = $3) RETURNING `+columns, a.ID, now, d.Version))
	if errors.Is(err, ErrNotFound) {
		stands, err = first(tx.Query(ctx, "SELECT "+columns+" FROM approvals WHERE id = $1", a.ID))
		if err == nil {
			err = &DecidedError{Approval: stands}
		}
		return false, nil, err
	}
	if err != nil {
		return false, nil, err
	}
	added, err := tx.Exec(ctx, `INSERT INTO approval_votes (approval_id, voter, feedback, at) VALUES ($1, $2, $3, $4) ON CONFLICT (approval_id, voter) DO NOTHING`,
		a.ID, who.Name, d.Feedback, now)
	if err != nil {
		return false, nil, fmt.Errorf("store a vote: %w", err)
	}
	var votes int
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM approval_votes WHERE approval_id = $1", []any{a.ID}, &votes); err != nil {
		return false, nil, fmt.Errorf("count the votes: %w", err)
	}
	if votes >= a.Quorum {
		return true, stands, nil
	}
	if added == 0 {
		return false, stands, nil // the same voice again
	}
	if err := s.happened(ctx, tx, stands, now); err != nil {
		return false, nil, err
	}
	return false, stands, audit.Append(ctx, tx, entry(who.Origin, "approval.voted", stands, now, d.Feedback))
}

// takeEffect carries a closed decision to the execution and to the agent.
func (s *Service) takeEffect(ctx context.Context, tx *database.Tx, a *models.Approval, now int64) error {
	row, err := s.carry(ctx, tx, a)
	if _, ok := errors.AsType[*execution.StateError](err); ok {
		return nil // it has ended in this moment; the decision stays on record and changes nothing
	}
	if err != nil {
		return err
	}
	if row.Status == models.Running && a.Callback != nil {
		if err := s.tell(ctx, tx, row, a); err != nil {
			return err
		}
	}
	kind := "approval.decided"
	if a.Status == models.ApprovalExpired {
		kind = "approval.expired"
	}
	if err := s.announce(ctx, tx, kind, a); err != nil {
		return err
	}
	return s.happened(ctx, tx, a, now)
}

var reasons = map[models.ApprovalStatus]string{
	models.Approved: "approval_granted", models.Rejected: "approval_rejected", models.ChangesRequested: "approval_changes_requested",
	models.ApprovalExpired: "approval_expired",
}

func (s *Service) carry(ctx context.Context, tx *database.Tx, a *models.Approval) (*models.Execution, error) {
	reason := reasons[a.Status]
	if a.Feedback != nil && a.Status != models.Approved {
		reason += ": " + *a.Feedback
	}
	cancel := (a.Status == models.Rejected && a.OnReject == "cancel") || (a.Status == models.ApprovalExpired && a.OnExpire == "cancel")
	if cancel {
		return s.Executions.EndWaiting(ctx, tx, a.ExecutionID, models.Cancelled, reason, "")
	}
	return s.Executions.Resume(ctx, tx, a.ExecutionID, reason)
}

const callbackAttempts = 12 // with doubling pauses from one second about as long as the grace

// tell queues the decision for the address the agent gave (wire.md 5.4).
func (s *Service) tell(ctx context.Context, tx *database.Tx, row *models.Execution, a *models.Approval) error {
	body := map[string]any{
		"execution_id": a.ExecutionID, "decision": string(a.Status), "new_status": string(row.Status), "feedback": value(a.Feedback),
		"approval_request_id": a.RequestID,
	}
	came, err := givenIn(ctx, tx, a)
	if err != nil {
		return err
	}
	if came.Response != nil {
		body["response"] = string(came.Response)
	}
	if came.Edited != nil {
		body["edited_payload"] = string(came.Edited)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("write a decision: %w", err)
	}
	return s.Executions.Tell(ctx, tx, row, "decision", *a.Callback, string(text), callbackAttempts)
}

// givenIn is what the agent gets beside the decision.
func givenIn(ctx context.Context, tx *database.Tx, a *models.Approval) (Given, error) {
	var edited []byte
	err := tx.QueryRow(ctx, "SELECT edited FROM approval_bodies WHERE approval_id = $1", []any{a.ID}, &edited)
	if err != nil && !errors.Is(err, database.ErrNoRows) {
		return Given{}, fmt.Errorf("read the edited payload: %w", err)
	}
	return given(a, edited), nil
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Told notes that the agent has taken a decision by its callback. An answer of resolved:false means that the process no longer knows.
func (s *Service) Told(ctx context.Context, n *models.Notice, answer []byte) {
	var said struct {
		Resolved *bool `json:"resolved"`
	}
	if n.Kind != "decision" || json.Unmarshal(answer, &said) == nil && said.Resolved != nil && !*said.Resolved {
		return
	}
	var body struct {
		RequestID string `json:"approval_request_id"`
	}
	if json.Unmarshal([]byte(n.Body), &body) != nil {
		return
	}
	if err := s.told(ctx, n.ExecutionID, body.RequestID); err != nil {
		s.Log.Warn("cannot note that a decision was taken", "execution_id", n.ExecutionID, "error", err)
	}
}

func (s *Service) told(ctx context.Context, executionID, requestID string) error {
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE approvals SET told_at = $1 WHERE execution_id = $2 AND request_id = $3 AND closed_at IS NOT NULL AND told_at IS NULL",
			s.DB.NowMs(), executionID, requestID)
		return err
	})
}

// Undo withdraws a decision that is held, by its author only.
func (s *Service) Undo(ctx context.Context, who Person, id string) (*models.Approval, error) {
	a, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	var after *models.Approval
	err = s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		if err := s.lock(ctx, tx, a); err != nil {
			return err
		}
		now := s.DB.NowMs()
		after, err = first(tx.Query(ctx, `UPDATE approvals SET status = 'pending', version = version + 1, decision = NULL, decided_by = NULL, channel = NULL,
			feedback = NULL, response = NULL, decided_at = NULL, held_until = NULL
			WHERE id = $1 AND status = 'held' AND decided_by = $2 AND held_until > $3 RETURNING `+columns, a.ID, who.Name, now))
		if errors.Is(err, ErrNotFound) {
			return ErrNothingHeld
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE approval_bodies SET edited = NULL WHERE approval_id = $1", a.ID); err != nil {
			return fmt.Errorf("forget the edited payload: %w", err)
		}
		if _, err := tx.Exec(ctx, "DELETE FROM approval_votes WHERE approval_id = $1 AND voter = $2", a.ID, who.Name); err != nil {
			return fmt.Errorf("take back the vote: %w", err)
		}
		if err := s.happened(ctx, tx, after, now); err != nil {
			return err
		}
		return audit.Append(ctx, tx, entry(who.Origin, "approval.undone", after, now, ""))
	})
	return after, err
}
