package approval_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/models"
)

func TestEachDecisionResumesTheAgent(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for word, want := range map[models.ApprovalStatus]string{
			models.Approved: "approval_granted", models.Rejected: "approval_rejected: mind the gap", models.ChangesRequested: "approval_changes_requested: mind the gap",
			models.ApprovalExpired: "approval_expired: mind the gap",
		} {
			a := r.asked(t, approval.Request{})
			done := r.decide(t, anna, a.ID, approval.Decision{Word: word, Feedback: "mind the gap"})
			if done.Repeated || done.Approval.Status != word || text(done.Approval.DecidedBy) != "anna" || text(done.Approval.Decision) != string(word) {
				t.Errorf("%s: %+v", word, done.Approval)
			}
			r.wantRow(t, a.ExecutionID, models.Running, want)
			r.wantActs(t, a, string(word))
			if kinds := r.kinds(t, a.ExecutionID); !slices.Equal(kinds, []string{"waiting", "approval.changed", "running", "approval.changed"}) {
				t.Errorf("%s: events %v", word, kinds)
			}
			stands, _, err := r.Status(t.Context(), a.ExecutionID, a.RequestID)
			if err != nil || stands.Status != word || text(stands.Feedback) != "mind the gap" {
				t.Errorf("%s: the agent reads %v (%v)", word, stands, err)
			}
		}
	})
}

func TestDecisionWordsAndTheirSynonyms(t *testing.T) {
	t.Parallel()
	for want, words := range map[models.ApprovalStatus]string{
		models.Approved: "approved approve continue confirm APPROVED Approve", models.Rejected: "rejected reject deny abort cancel",
		models.ChangesRequested: "request_changes", models.ApprovalExpired: "expired",
	} {
		for word := range strings.FieldsSeq(words) {
			if got, ok := approval.ReadDecision(" " + word + "\n"); !ok || got != want {
				t.Errorf("%q is %q, not %q", word, got, want)
			}
		}
	}
	for _, word := range []string{"", " ", "yes", "ok", "true", "1", "approved!", "pending", "withdrawn", "held", "approve d", "null"} {
		if got, ok := approval.ReadDecision(word); ok {
			t.Errorf("%q was taken for %q", word, got)
		}
	}
}

func TestEndsThatCancel(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		rejected := r.asked(t, approval.Request{OnReject: "cancel"})
		r.decide(t, anna, rejected.ID, approval.Decision{Word: models.Rejected, Feedback: "too dear"})
		r.wantRow(t, rejected.ExecutionID, models.Cancelled, "approval_rejected: too dear")
		r.wantActs(t, rejected, "rejected")
		if n := r.count(t, "SELECT count(*) FROM notices WHERE execution_id = $1 AND kind = 'cancel'", rejected.ExecutionID); n != 1 {
			t.Errorf("the agent gets %d words of the cancel", n)
		}
		expired := r.asked(t, approval.Request{OnExpire: "cancel", ExpiresIn: time.Hour})
		r.clock.advance(time.Hour)
		r.sweep(t)
		r.wantRow(t, expired.ExecutionID, models.Cancelled, "approval_expired")
		r.wantActs(t, expired, "expired")
		approved := r.asked(t, approval.Request{OnReject: "cancel", OnExpire: "cancel"})
		r.decide(t, anna, approved.ID, approve(""))
		r.wantRow(t, approved.ExecutionID, models.Running, "approval_granted")
	})
}

func TestEndsAsTheServerIsSet(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{})
		r.decide(t, anna, a.ID, approval.Decision{Word: models.Rejected})
		r.wantRow(t, a.ExecutionID, models.Cancelled, "approval_rejected")
		kept := r.asked(t, approval.Request{OnReject: "resume"})
		r.decide(t, anna, kept.ID, approval.Decision{Word: models.Rejected})
		r.wantRow(t, kept.ExecutionID, models.Running, "approval_rejected")
	}, func(o *approval.Options) { o.OnReject = "cancel" })
}

func TestTheSecondLearnsWhoWasFaster(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{})
		at := r.db.NowMs()
		r.decide(t, anna, a.ID, approve("fine"))
		r.clock.advance(4 * time.Second)
		for _, word := range []models.ApprovalStatus{models.Approved, models.Rejected, models.ChangesRequested} {
			late := r.late(t, bert, a.ID, approval.Decision{Word: word})
			if s := late.Approval; text(s.DecidedBy) != "anna" || text(s.DecidedAt) != text(&at) || s.Status != models.Approved {
				t.Errorf("bert learns %+v", s)
			}
			if !strings.Contains(late.Error(), "anna") {
				t.Errorf("bert reads %q", late)
			}
		}
		if again := r.decide(t, anna, a.ID, approve("fine")); !again.Repeated || again.Approval.ID != a.ID {
			t.Errorf("B25: the identical repeat: %+v", again)
		}
		_ = r.late(t, anna, a.ID, approval.Decision{Word: models.Rejected})
		r.wantActs(t, a, "approved", "refused", "refused", "refused", "refused")
		if kinds := r.kinds(t, a.ExecutionID); !slices.Equal(kinds, []string{"waiting", "approval.changed", "running", "approval.changed"}) {
			t.Errorf("late decisions left events: %v", kinds)
		}
	})
}

func TestADoubleClickInTheDashboardIsNoConflict(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{})
		click := approval.Decision{Word: models.Approved, Version: a.Version, Hold: true}
		held := r.decide(t, anna, a.ID, click).Approval
		if again := r.decide(t, anna, a.ID, click); !again.Repeated || again.Approval.Version != held.Version || text(again.Approval.HeldUntil) != text(held.HeldUntil) {
			t.Errorf("the second click: %+v", again)
		}
		_ = r.late(t, anna, a.ID, approval.Decision{Word: models.Rejected, Feedback: "no", Version: a.Version, Hold: true})
		r.clock.advance(hold)
		r.sweep(t)
		if again := r.decide(t, anna, a.ID, click); !again.Repeated {
			t.Errorf("the click after it took effect: %+v", again)
		}
	})
}

func TestADecisionOnWhatHasChangedIsRefused(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{})
		_ = r.late(t, anna, a.ID, approval.Decision{Word: models.Approved, Version: a.Version + 1})
		r.wantStatus(t, a.ID, models.ApprovalPending)
		r.decide(t, anna, a.ID, approval.Decision{Word: models.Approved, Version: a.Version})
		r.wantStatus(t, a.ID, models.Approved)
	})
}

func TestAnExpiredRequestIsToldAsExpired(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{RequestID: "claim", ExpiresIn: time.Hour})
		at := r.db.NowMs() + time.Hour.Milliseconds()
		r.clock.advance(time.Hour - time.Millisecond)
		r.sweep(t)
		r.wantStatus(t, a.ID, models.ApprovalPending)
		r.clock.advance(time.Millisecond)
		// Nobody has swept yet: whoever decides now must not hear that the request is still pending.
		late := r.late(t, anna, a.ID, approve(""))
		if late.Approval.Status != models.ApprovalExpired || text(late.Approval.DecidedAt) != text(&at) {
			t.Errorf("S69: %s %+v", late, late.Approval)
		}
		r.sweep(t)
		r.sweep(t)
		r.wantRow(t, a.ExecutionID, models.Running, "approval_expired")
		if acts := r.acts(t, a); slices.Index(acts, "expired") < 0 || len(slices.DeleteFunc(acts, func(s string) bool { return s == "refused" })) != 1 {
			t.Errorf("S69: one audit row, not %v", r.acts(t, a))
		}
		stands, _, err := r.Status(t.Context(), a.ExecutionID, "claim")
		if err != nil || stands.Status != models.ApprovalExpired || text(stands.DecidedBy) != "timer" {
			t.Errorf("the agent reads %+v (%v)", stands, err)
		}
	})
}

func TestAnExecutionThatEndsWithdrawsItsRequest(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		cancelled := r.asked(t, approval.Request{RequestID: "claim"})
		r.cancel(t, cancelled.ExecutionID)
		r.wantStatus(t, cancelled.ID, models.ApprovalWithdrawn)
		r.wantActs(t, cancelled, "withdrawn")
		late := r.late(t, anna, cancelled.ID, approve(""))
		if !strings.Contains(late.Error(), "ended") {
			t.Errorf("anna reads %q", late)
		}
		r.wantRow(t, cancelled.ExecutionID, models.Cancelled, "no longer needed")
		r.wantActs(t, cancelled, "withdrawn", "refused")

		held := r.asked(t, approval.Request{RequestID: "claim"})
		r.decide(t, anna, held.ID, approval.Decision{Word: models.Approved, Hold: true})
		r.cancel(t, held.ExecutionID)
		r.clock.advance(hold)
		r.sweep(t)
		r.wantStatus(t, held.ID, models.ApprovalWithdrawn)
		r.wantRow(t, held.ExecutionID, models.Cancelled, "no longer needed")
		if _, err := r.Undo(t.Context(), anna, held.ID); !errors.Is(err, approval.ErrNothingHeld) {
			t.Errorf("undo after the end: %v", err)
		}
	})
}

func TestAHeldDecision(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{})
		held := r.decide(t, anna, a.ID, approval.Decision{Word: models.Approved, Feedback: "fine", Hold: true}).Approval
		due := r.db.NowMs() + hold.Milliseconds()
		if held.Status != models.ApprovalHeld || text(held.HeldUntil) != text(&due) || held.ClosedAt != nil {
			t.Fatalf("%+v", held)
		}
		r.wantRow(t, a.ExecutionID, models.Waiting, "waiting_for_approval")
		if late := r.late(t, bert, a.ID, approve("")); text(late.Approval.DecidedBy) != "anna" {
			t.Errorf("the hold reserves the decision: %v", late)
		}
		if _, err := r.Undo(t.Context(), bert, a.ID); !errors.Is(err, approval.ErrNothingHeld) {
			t.Errorf("another withdraws it: %v", err)
		}
		back, err := r.Undo(t.Context(), anna, a.ID)
		if err != nil || back.Status != models.ApprovalPending || back.Decision != nil || back.DecidedBy != nil || back.Feedback != nil || back.HeldUntil != nil {
			t.Fatalf("undo: %+v %v", back, err)
		}
		r.clock.advance(hold)
		r.sweep(t)
		r.wantStatus(t, a.ID, models.ApprovalPending)

		r.decide(t, anna, a.ID, approval.Decision{Word: models.Rejected, Feedback: "no", Hold: true})
		r.clock.advance(hold - time.Millisecond)
		r.sweep(t)
		r.wantStatus(t, a.ID, models.ApprovalHeld)
		r.clock.advance(time.Millisecond)
		if _, err := r.Undo(t.Context(), anna, a.ID); !errors.Is(err, approval.ErrNothingHeld) {
			t.Errorf("undo when the time is over: %v", err)
		}
		r.sweep(t)
		r.sweep(t)
		r.wantStatus(t, a.ID, models.Rejected)
		r.wantRow(t, a.ExecutionID, models.Running, "approval_rejected: no")
		r.wantActs(t, a, "held", "refused", "undone", "held", "rejected")
		if actor := r.texts(t, "SELECT actor FROM audit_log WHERE action = 'approval.rejected'"); !slices.Equal(actor, []string{"user:anna"}) {
			t.Errorf("the audit log names %v as the one who rejected", actor)
		}
	})
}

func TestAHeldDecisionCanBeChangedByItsAuthor(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{Payload: []byte(`{"amount":7}`), Editable: true})
		r.decide(t, anna, a.ID, approval.Decision{Word: models.Approved, Edited: []byte(`{"amount":5}`), Hold: true})
		r.decide(t, anna, a.ID, approval.Decision{Word: models.Rejected, Feedback: "no, rather not", Hold: true})
		r.clock.advance(hold)
		r.sweep(t)
		stands, response, err := r.Status(t.Context(), a.ExecutionID, a.RequestID)
		if err != nil || stands.Status != models.Rejected || response.Response != nil {
			t.Errorf("the agent reads %s with %s (%v)", stands.Status, response.Response, err)
		}
	})
}

func TestNoHoldWhenLessThanAMinuteRemains(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		enough := r.asked(t, approval.Request{ExpiresIn: time.Minute})
		if held := r.decide(t, anna, enough.ID, approval.Decision{Word: models.Approved, Hold: true}); held.Approval.Status != models.ApprovalHeld {
			t.Errorf("with a minute left: %s", held.Approval.Status)
		}
		short := r.asked(t, approval.Request{ExpiresIn: time.Minute - time.Millisecond})
		if done := r.decide(t, anna, short.ID, approval.Decision{Word: models.Approved, Hold: true}); done.Approval.Status != models.Approved {
			t.Errorf("with less: %s", done.Approval.Status)
		}
		r.wantRow(t, short.ExecutionID, models.Running, "approval_granted")
	})
}

// A decision that was made in time is not undone by the end of the time, however late it is carried out: the server may have been away.
func TestExpiryDuringAHoldAndARestart(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{ExpiresIn: time.Minute})
		r.decide(t, anna, a.ID, approval.Decision{Word: models.Approved, Feedback: "fine", Hold: true})
		r.clock.advance(2 * time.Minute)
		after := build(t, r.db, r.clock)
		after.sweep(t)
		after.wantStatus(t, a.ID, models.Approved)
		after.wantRow(t, a.ExecutionID, models.Running, "approval_granted")
		after.wantActs(t, a, "held", "approved")
	})
}

func TestReasonsAndSizes(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{Payload: []byte(`{"amount":7}`)})
		for name, tc := range map[string]struct {
			d     approval.Decision
			field string
		}{
			"no reason":            {approval.Decision{Word: models.Rejected, FeedbackRequired: true, Feedback: " \n"}, "feedback"},
			"no words for changes": {approval.Decision{Word: models.ChangesRequested, FeedbackRequired: true}, "feedback"},
			"too much":             {approval.Decision{Word: models.Approved, Feedback: strings.Repeat("x", 16<<10+1)}, "feedback"},
			"no text":              {approval.Decision{Word: models.Approved, Feedback: "a\x00"}, "feedback"},
			"broken text":          {approval.Decision{Word: models.Approved, Feedback: "a\xff"}, "feedback"},
			"not editable":         {approval.Decision{Word: models.Approved, Edited: []byte(`{}`)}, "edited"},
			"no JSON":              {approval.Decision{Word: models.Approved, Response: []byte(`{`)}, "response"},
			"broken text in JSON":  {approval.Decision{Word: models.Approved, Response: []byte("{\"a\":\"\xff\"}")}, "response"},
			"too large":            {approval.Decision{Word: models.Approved, Response: []byte(`"` + strings.Repeat("x", 1<<20) + `"`)}, "response"},
		} {
			var field *approval.FieldError
			if _, err := r.Decide(t.Context(), anna, a.ID, tc.d); !errors.As(err, &field) || field.Field != tc.field {
				t.Errorf("%s: %v", name, err)
			}
		}
		r.wantStatus(t, a.ID, models.ApprovalPending)
		r.decide(t, anna, a.ID, approval.Decision{Word: models.Approved, FeedbackRequired: true})
	})
}

func TestAnEditedPayloadAndAnswersReachTheAgent(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		edited := r.asked(t, approval.Request{Payload: []byte(`{"amount":7}`), Editable: true})
		var field *approval.FieldError
		for name, d := range map[string]approval.Decision{
			"an edit with a rejection": {Word: models.Rejected, Edited: []byte(`{}`)}, "an edit that is no JSON": {Word: models.Approved, Edited: []byte(`{`)},
			"broken text": {Word: models.Approved, Edited: []byte("{\"a\":\"\xff\"}")},
		} {
			if _, err := r.Decide(t.Context(), anna, edited.ID, d); !errors.As(err, &field) || field.Field != "edited" {
				t.Errorf("%s: %v", name, err)
			}
		}
		r.decide(t, anna, edited.ID, approval.Decision{Word: models.Approved, Edited: []byte(`{"amount":5}`)})
		if _, response, err := r.Status(t.Context(), edited.ExecutionID, ""); err != nil || string(response.Response) != `{"amount":5}` {
			t.Errorf("the agent reads %s (%v)", response, err)
		}

		form := []byte(`{"type":"object","required":["account"],"properties":{"account":{"type":"string"},"share":{"type":"integer","maximum":100}}}`)
		asked := r.asked(t, approval.Request{Form: form})
		for answers, want := range map[string]string{
			`{}`: "response", `{"account":7}`: "answer.account", `{"account":"a","share":101}`: "answer.share", `[]`: "response",
		} {
			if _, err := r.Decide(t.Context(), anna, asked.ID, approval.Decision{Word: models.Approved, Response: []byte(answers)}); !errors.As(err, &field) || field.Field != want {
				t.Errorf("%s: %v", answers, err)
			}
		}
		if _, err := r.Decide(t.Context(), anna, asked.ID, approve("")); !errors.As(err, &field) {
			t.Errorf("no answers at all: %v", err)
		}
		r.decide(t, anna, asked.ID, approval.Decision{Word: models.Approved, Response: []byte(`{"account":"4711","share":50}`)})
		if _, response, err := r.Status(t.Context(), asked.ExecutionID, ""); err != nil || string(response.Response) != `{"account":"4711","share":50}` {
			t.Errorf("the agent reads %s (%v)", response, err)
		}
		refused := r.asked(t, approval.Request{Form: form})
		r.decide(t, anna, refused.ID, approval.Decision{Word: models.Rejected, Feedback: "no answers needed"})
	})
}
