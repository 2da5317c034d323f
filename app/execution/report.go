package execution

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

// Report is what an agent says about an execution it was given (wire.md 3.9).
type Report struct {
	Token    string // X-Execution-Token; may be empty where unsigned agents are accepted
	Status   models.Status
	Reason   string
	Result   []byte // any JSON; nil when absent
	Error    string
	Details  []byte // JSON
	Progress *float64
	Message  string // of the progress
	Partial  []byte // JSON: the result so far
}

// ErrTerminalConflict says that the execution has ended otherwise than the report claims. Nothing was changed; the report is kept.
var ErrTerminalConflict = errors.New("the execution has already ended in another status; the report was kept in its event log")

// Report applies what an agent says. Terminal statuses stay as they are: the same word again is answered with the record, another one
// with ErrTerminalConflict if the report carries a token, and with the record if it does not, because published SDKs repeat every
// refusal (wire.md B26).
func (s *Service) Report(ctx context.Context, id string, r Report) (Finished, error) {
	attempt, err := s.attemptOf(id, r.Token)
	if err != nil {
		return Finished{}, err
	}
	r.Reason, r.Error, r.Message = clean(r.Reason), clean(r.Error), clean(r.Message)
	row, err := s.Row(ctx, id)
	if err != nil {
		return Finished{}, err
	}
	if attempt > 0 && attempt < row.Attempt && !row.Status.Terminal() {
		return Finished{}, ErrStaleAttempt
	}
	if r.Progress != nil || r.Message != "" || r.Partial != nil {
		if _, err := s.setProgress(ctx, id, r.Progress, r.Message, r.Partial); err != nil {
			return Finished{}, err
		}
	}
	if row.Status.Terminal() {
		return s.lateReport(ctx, row, r)
	}
	if r.Status == row.Status || row.Status == models.Paused && r.Status == models.Running { // an operator resumes, not the agent
		return s.Get(ctx, id)
	}
	if r.Status == models.Succeeded && (row.Status == models.Waiting && row.Rounds > 0 || row.Status == models.Paused) {
		if err := s.keepOutcome(ctx, row, keptOutcome{Result: r.Result}); err != nil {
			return Finished{}, err
		}
		return s.Get(ctx, id)
	}
	m, err := s.reported(row, r, attempt)
	if err != nil {
		return Finished{}, err
	}
	ours, err := s.transition(ctx, m)
	if err != nil {
		return Finished{}, err
	}
	if !ours { // somebody was faster: judge again by what is on record now
		if row, err = s.Row(ctx, id); err != nil {
			return Finished{}, err
		}
		if row.Status.Terminal() {
			return s.lateReport(ctx, row, r)
		}
		return Finished{}, &StateError{ID: id, Status: row.Status, Wanted: string(r.Status)}
	}
	if m.to.Terminal() {
		s.inFlight.stop(id, errEnded)
	}
	return s.Get(ctx, id)
}

// reported decides which transition a report asks for.
func (s *Service) reported(row *models.Execution, r Report, attempt int) (*move, error) {
	m := &move{id: row.ID, from: []models.Status{row.Status}, to: r.Status, attempt: attempt, reason: r.Reason, data: map[string]any{"source": "report"}}
	// An attempt that was put back after a crash of ours may still end by itself: its report is as good as an answer.
	if (row.Status == models.Queued || row.Status == models.Pending) && row.Attempt > 0 && r.Status.Terminal() {
		return m.viaRunning(s, row, r)
	}
	if !row.Status.CanBecome(r.Status) || r.Status == models.Queued || r.Status == models.Pending || r.Status == models.Paused {
		return nil, &StateError{ID: row.ID, Status: row.Status, Wanted: string(r.Status)}
	}
	return m, s.fill(m, row, r)
}

// viaRunning lets a report end an execution that waits for its redelivery.
func (m *move) viaRunning(s *Service, row *models.Execution, r Report) (*move, error) {
	if !models.Running.CanBecome(r.Status) {
		return nil, &StateError{ID: row.ID, Status: row.Status, Wanted: string(r.Status)}
	}
	m.resumed = true
	return m, s.fill(m, row, r)
}

func (s *Service) fill(m *move, row *models.Execution, r Report) error {
	switch r.Status {
	case models.Succeeded:
		result := r.Result
		if result == nil {
			result = []byte("null")
		}
		m.result = s.newBody(result)
	case models.Failed:
		return s.fillFailure(m, row, r)
	case models.Timeout:
		m.failure = &failure{code: "agent_timeout", category: "agent_timeout", message: orElse(r.Error, "the agent reported a time-out")}
	case models.Cancelled:
		m.reason = orElse(r.Reason, "cancelled by the agent")
	case models.Pending, models.Queued, models.Running, models.Waiting, models.Paused:
	}
	return nil
}

// fillFailure ends the execution, or puts it back for another attempt if its policy says so.
func (s *Service) fillFailure(m *move, row *models.Execution, r Report) error {
	m.failure = &failure{code: "agent_error", category: "agent_error", message: cut(orElse(r.Error, orElse(r.Reason, "the agent reported a failure")), 4096), class: onError}
	m.failures = 1
	policy := parsePolicy(row.RetryPolicy)
	if row.Status == models.Running && policy.retries(onError, row.Failures+1) {
		m.to, m.after, m.kind = models.Queued, policy.delay(row.Failures+1), event.KindAttemptFailed
		m.reason = fmt.Sprintf("attempt %d failed: %s", row.Attempt, cut(m.failure.message, 200))
		return nil
	}
	m.details = s.newBody(r.Details)
	if m.reason == "" {
		m.reason = "agent_error"
	}
	return nil
}

func orElse(text, other string) string {
	if text != "" {
		return text
	}
	return other
}

// lateReport keeps what came after the end.
func (s *Service) lateReport(ctx context.Context, row *models.Execution, r Report) (Finished, error) {
	data := map[string]any{"source": "report", "status": string(r.Status)}
	if r.Error != "" {
		data["error"] = cut(r.Error, 1024)
	}
	if r.Result != nil {
		data["result"] = cut(string(r.Result), 4096)
	}
	if err := s.appendEvent(ctx, row, event.KindLateReport, data); err != nil {
		return Finished{}, err
	}
	if r.Status != row.Status && r.Token != "" && r.Status.Terminal() {
		return Finished{Row: row}, ErrTerminalConflict
	}
	return s.Get(ctx, row.ID)
}

func (s *Service) appendEvent(ctx context.Context, row *models.Execution, kind string, data map[string]any) error {
	return s.append(ctx, s.eventOf(row, kind, data))
}

func (s *Service) eventOf(row *models.Execution, kind string, data map[string]any) *models.Event {
	return &models.Event{
		ExecutionID: &row.ID, RunID: &row.RunID, NodeID: row.NodeID, Kind: kind, Attempt: row.Attempt, At: s.DB.NowMs(), Data: asJSON(data),
	}
}

func (s *Service) append(ctx context.Context, e *models.Event) error {
	return s.DB.Tx(ctx, func(tx *database.Tx) error { return s.Events.Append(ctx, tx, e) })
}
