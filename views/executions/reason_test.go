package executions_test

import (
	"testing"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/executions"
)

const acceptedAt = int64(1_700_000_000_000)

func TestReasonIsOneSentenceOfWhatTheServerKnows(t *testing.T) {
	now := time.UnixMilli(acceptedAt + 42_000)
	tests := map[string]struct {
		change func(*models.Execution)
		facts  executions.Facts
		want   string
		advice bool
	}{
		"pending": {
			func(e *models.Execution) { e.Status = models.Pending },
			executions.Facts{},
			"Pending for 42 s: no healthy instance of scorer.", true,
		},
		"at the cap": {
			func(e *models.Execution) { e.Status = models.Queued },
			executions.Facts{Ahead: 6, Hold: executions.Hold{Kind: "cap", Of: "scorer", Running: 10, Cap: 10}},
			"Queued for 42 s: scorer is at its limit (10 of 10); 6 ahead of it.", false,
		},
		"next": {
			func(e *models.Execution) { e.Status = models.Queued },
			executions.Facts{},
			"Queued for 42 s: waiting for a free worker; it is next.", false,
		},
		"at the rate": {
			func(e *models.Execution) { e.Status = models.Queued },
			executions.Facts{Ahead: 2, Hold: executions.Hold{Kind: "rate", Of: "scorer.score", PerMinute: 90, OpensAt: acceptedAt + 45_000}},
			"Queued for 42 s: scorer.score begins 90 a minute, the next one in 3 s; 2 ahead of it.", false,
		},
		"behind its key": {
			func(e *models.Execution) { e.Status = models.Queued },
			executions.Facts{Hold: executions.Hold{Kind: "key", Of: "customer 7", Running: 1, Cap: 1}},
			"Queued for 42 s: the key customer 7 is held by others (1 of 1); it is next.", false,
		},
		"nothing known of the queue": {
			func(e *models.Execution) { e.Status = models.Queued },
			executions.Facts{Ahead: -1},
			"Queued for 42 s: waiting for a free worker.", false,
		},
		"between attempts": {
			func(e *models.Execution) {
				e.Status, e.AvailableAt, e.StatusReason = models.Queued, acceptedAt+46_000, new("attempt 1 failed: overloaded")
			},
			executions.Facts{},
			"Queued again, next attempt in 4 s: attempt 1 failed: overloaded.", false,
		},
		"running": {
			func(e *models.Execution) {
				e.Status, e.StartedAt, e.LeaseOwner, e.Attempt = models.Running, new(acceptedAt+2000), new("r"), 1
			},
			executions.Facts{LastSign: new(acceptedAt + 34_000)},
			"Running for 40 s, last sign of life 8 s ago.", false,
		},
		"on its own, with a limit": {
			func(e *models.Execution) {
				e.Status, e.StartedAt, e.InstanceID, e.Attempt, e.MaxAttempts = models.Running, new(acceptedAt+2000), new("i"), 2, 3
				e.DeadlineAt = new(acceptedAt + 102_000)
			},
			executions.Facts{},
			"Running for 40 s; the agent works on its own and will report, attempt 2 of 3; its limit ends it in 1 min.", false,
		},
		"succeeded late": {
			func(e *models.Execution) {
				e.Status, e.StartedAt, e.FinishedAt, e.Attempt = models.Succeeded, new(acceptedAt+3000), new(acceptedAt+4200), 2
			},
			executions.Facts{},
			"Succeeded in 1.2 s at attempt 2 after 3.0 s in the queue.", false,
		},
		"the agent refused": {
			func(e *models.Execution) {
				e.Status, e.ErrorCategory, e.ErrorStatus = models.Failed, new("agent_error"), new(422)
				e.ErrorMessage = new("agent error (422): ticket_id is missing\nand more")
			},
			executions.Facts{},
			"Failed: scorer.score answered 422: ticket_id is missing.", true,
		},
		"nobody there": {
			func(e *models.Execution) {
				e.Status, e.ErrorCategory, e.Attempt = models.Failed, new("agent_unreachable"), 3
				e.ErrorMessage = new("no instance of scorer can be reached: connection refused")
			},
			executions.Facts{},
			"Failed after 3 attempts: no instance of scorer can be reached: connection refused.", true,
		},
		"synchronous limit": {
			func(e *models.Execution) {
				e.Status, e.Mode, e.TimeoutMs, e.StartedAt = models.Timeout, "sync", new(int64(90_000)), new(acceptedAt)
			},
			executions.Facts{},
			"Timed out after its limit of 1 min 30 s.", true,
		},
		"cancelled": {
			func(e *models.Execution) { e.Status, e.StatusReason = models.Cancelled, new("no longer needed") },
			executions.Facts{},
			"Cancelled: no longer needed.", false,
		},
		"cancelled without a word": {
			func(e *models.Execution) { e.Status = models.Cancelled }, executions.Facts{}, "Cancelled.", false,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := &models.Execution{NodeID: "scorer", Function: "score", Mode: "async", CreatedAt: acceptedAt, AvailableAt: acceptedAt}
			test.change(e)
			why, advice := executions.Reason(e, test.facts, now)
			if why.String() != test.want {
				t.Errorf("it says %q,\n      want %q", why, test.want)
			}
			if (advice != "") != test.advice {
				t.Errorf("the advice is %q", advice)
			}
		})
	}
}

func TestEveryStatusHasAReason(t *testing.T) {
	for _, s := range models.Statuses {
		e := &models.Execution{NodeID: "n", Function: "f", Status: s, CreatedAt: acceptedAt, AvailableAt: acceptedAt}
		if why, _ := executions.Reason(e, executions.Facts{}, time.UnixMilli(acceptedAt)); why.String() == string(s) || why.String() == "" {
			t.Errorf("%s has no sentence", s)
		}
	}
}
