package executions

import (
	"fmt"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
)

// Facts are what the server knows beside the row and what explains its status.
type Facts struct {
	Ahead    int              // executions that wait before this one; -1: unknown
	Hold     Hold             // what keeps it in the queue
	LastSign *int64           // ms: the last event of the execution, when it was heard of last
	Approval *models.Approval // what it waits for a decision on; nil: nothing, or unknown
}

// Hold is the limit that an execution waits for; without a kind it waits for a free worker.
type Hold struct {
	Kind      string // cap, rate or key
	Of        string // whose: a node, node.function, or a concurrency key
	Running   int    // of a cap or a key
	Cap       int
	PerMinute int   // of a rate
	OpensAt   int64 // ms
}

// Reason says in one sentence why the execution is where it is, and, where there is one, what to do about it.
func Reason(e *models.Execution, f Facts, now time.Time) (why components.Sentence, advice string) {
	switch e.Status {
	case models.Pending:
		return pending(e, now), "It starts by itself as soon as an instance of the agent reports in."
	case models.Queued:
		return queued(e, f, now), ""
	case models.Running:
		return running(e, f, now), ""
	case models.Waiting:
		return waiting(f.Approval, now), ""
	case models.Paused:
		return because(components.Say("Paused by an operator"), e.StatusReason), ""
	case models.Succeeded:
		return succeeded(e), ""
	case models.Failed:
		return failed(e), remedy(e)
	case models.Timeout:
		return timedOut(e), remedy(e)
	case models.Cancelled:
		return because(components.Say("Cancelled"), e.StatusReason), ""
	}
	return components.Say(string(e.Status)), ""
}

func pending(e *models.Execution, now time.Time) components.Sentence {
	return components.Say("Pending for ").Elapsed(e.CreatedAt, now).And(": no healthy instance of ").Name(e.NodeID).And(".")
}

func queued(e *models.Execution, f Facts, now time.Time) components.Sentence {
	if e.AvailableAt > now.UnixMilli() {
		return because(components.Say("Queued again, next attempt in ").Left(e.AvailableAt, now), e.StatusReason)
	}
	s := components.Say("Queued for ").Elapsed(e.CreatedAt, now)
	switch h := f.Hold; {
	case h.Kind == "cap":
		s = s.And(": ").Name(h.Of).And(fmt.Sprintf(" is at its limit (%d of %d)", h.Running, h.Cap))
	case h.Kind == "rate":
		s = s.And(": ").Name(h.Of).And(" begins "+components.Number(h.PerMinute)+" a minute, the next one in ").Left(h.OpensAt, now)
	case h.Kind == "key":
		s = s.And(": the key ").Name(h.Of).And(fmt.Sprintf(" is held by others (%d of %d)", h.Running, h.Cap))
	case e.StatusReason != nil && *e.StatusReason != "":
		return because(s, e.StatusReason)
	default:
		s = s.And(": waiting for a free worker")
	}
	switch {
	case f.Ahead == 0:
		s = s.And("; it is next")
	case f.Ahead > 0:
		s = s.And("; " + components.Number(f.Ahead) + " ahead of it")
	}
	return s.And(".")
}

func running(e *models.Execution, f Facts, now time.Time) components.Sentence {
	s := components.Say("Running")
	if e.StartedAt != nil {
		s = s.And(" for ").Elapsed(*e.StartedAt, now)
	}
	if e.LeaseOwner == nil && e.InstanceID != nil {
		s = s.And("; the agent works on its own and will report")
	}
	if f.LastSign != nil {
		s = s.And(", last sign of life ").Elapsed(*f.LastSign, now).And(" ago")
	}
	if e.Attempt > 1 {
		s = s.And(fmt.Sprintf(", attempt %d of %d", e.Attempt, max(e.MaxAttempts, e.Attempt)))
	}
	if e.DeadlineAt != nil {
		s = s.And("; its limit ends it in ").Left(*e.DeadlineAt, now)
	}
	return s.And(".")
}

func waiting(a *models.Approval, now time.Time) components.Sentence {
	if a == nil {
		return components.Say("Waiting for a person to decide. The agent goes on with the decision.")
	}
	s := components.Say("Waiting for a person to decide ").Name(components.FirstLine(a.Title))
	if a.Title == "" {
		s = components.Say("Waiting for approval ").Name(a.RequestID)
	}
	switch {
	case a.ExpiresAt > now.UnixMilli():
		s = s.And(", expires in ").Left(a.ExpiresAt, now).And(" (" + time.UnixMilli(a.ExpiresAt).UTC().Format("Mon 15:04") + " UTC)")
	default:
		s = s.And(", whose time is over")
	}
	if a.ClaimedBy != nil && a.ClaimedUntil != nil && *a.ClaimedUntil > now.UnixMilli() {
		s = s.And(", claimed by " + *a.ClaimedBy)
	}
	return s.And(".")
}

func succeeded(e *models.Execution) components.Sentence {
	s := components.Say("Succeeded")
	if took := e.DurationMs(); took != nil {
		s = s.And(" in " + spanMs(*took))
	}
	if e.Attempt > 1 {
		s = s.And(" at attempt " + components.Number(e.Attempt))
	}
	if e.StartedAt != nil && *e.StartedAt-e.CreatedAt >= 1000 {
		s = s.And(" after " + spanMs(*e.StartedAt-e.CreatedAt) + " in the queue")
	}
	return s.And(".")
}

func failed(e *models.Execution) components.Sentence {
	s := components.Say("Failed")
	if e.Attempt > 1 {
		s = s.And(fmt.Sprintf(" after %d attempts", e.Attempt))
	}
	reason := e.ErrorMessage
	if reason == nil {
		reason = e.StatusReason
	}
	switch value(e.ErrorCategory) {
	case "agent_error":
		s = s.And(": ").Name(e.Target())
		if e.ErrorStatus == nil {
			return because(s.And(" reported an error"), reason)
		}
		// The message repeats the status for callers who read only that.
		text := strings.TrimPrefix(value(reason), fmt.Sprintf("agent error (%d): ", *e.ErrorStatus))
		return because(s.And(fmt.Sprintf(" answered %d", *e.ErrorStatus)), &text)
	case "bad_response":
		return because(s.And(": the answer of ").Name(e.Target()).And(" cannot be used"), reason)
	}
	return because(s, reason)
}

func timedOut(e *models.Execution) components.Sentence {
	s := components.Say("Timed out")
	switch took := e.DurationMs(); {
	case e.TimeoutMs != nil:
		s = s.And(" after its limit of " + spanMs(*e.TimeoutMs))
	case took != nil:
		s = s.And(" after " + spanMs(*took))
	}
	if e.StartedAt == nil {
		s = s.And(", before it could start")
	}
	return s.And(".")
}

// remedy is what usually helps, by the kind of failure. It is advice, not a claim about this one.
func remedy(e *models.Execution) string {
	switch {
	case e.Status == models.Timeout && e.Mode == "sync":
		return "This was the limit of a synchronous call. Longer work belongs to the asynchronous endpoint, which has none by default; or raise timeout_seconds."
	case e.Status == models.Timeout:
		return "Raise timeout_seconds of the request, or let the agent report progress to see where the time goes."
	}
	switch value(e.ErrorCategory) {
	case "agent_unreachable":
		return "Check that the agent runs and that its registered address can be reached from this server. A request may ask for retries."
	case "bad_response":
		return "Agents answer with JSON, within the size limit of this server."
	case "agent_error":
		if e.ErrorStatus != nil && *e.ErrorStatus < 500 {
			return "The agent refused the input: compare it with what the function expects."
		}
	}
	return ""
}

// because ends a sentence with a stored reason, or without one.
func because(s components.Sentence, reason *string) components.Sentence {
	text := strings.TrimSpace(value(reason))
	if text == "" {
		return s.And(".")
	}
	return s.And(": " + sentence(text))
}

// sentence makes sure that a text ends like one.
func sentence(text string) string {
	text = components.FirstLine(text)
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "…") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

func spanMs(ms int64) string { return components.Span(time.Duration(ms) * time.Millisecond) }

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
