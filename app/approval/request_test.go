package approval_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

func TestAskMovesTheExecutionToWaiting(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		id := r.running(t)
		a := r.ask(t, id, approval.Request{})
		if !strings.HasPrefix(a.ID, "appr_") || a.RequestID != a.ID || a.URL != "https://plane.example/approvals/"+a.ID {
			t.Errorf("B24: id %q, request id %q, url %q", a.ID, a.RequestID, a.URL)
		}
		if want := r.db.NowMs() + (72 * time.Hour).Milliseconds(); a.ExpiresAt != want || a.Round != 1 || a.Status != models.ApprovalPending {
			t.Errorf("expires at %d, not %d; round %d, %s", a.ExpiresAt, want, a.Round, a.Status)
		}
		r.wantRow(t, id, models.Waiting, "waiting_for_approval")
		if kinds := r.kinds(t, id); !slices.Equal(kinds, []string{"waiting", "approval.changed"}) {
			t.Errorf("events: %v", kinds)
		}
		own := r.ask(t, r.running(t), approval.Request{RequestID: "claim-1", URL: "https://claims.example/1", ExpiresIn: time.Hour})
		if own.RequestID != "claim-1" || own.URL != "https://claims.example/1" || r.read(t, "claim-1").ID != own.ID {
			t.Errorf("the agent's own id and address: %+v", own)
		}
	})
}

func TestAskThatIsRefusedStoresNothing(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		taken := r.asked(t, approval.Request{RequestID: "taken"})
		run := r.running(t)
		before := r.count(t, "SELECT count(*) FROM events")
		var state *execution.StateError
		var field *approval.FieldError
		for name, tc := range map[string]struct {
			id   string
			ask  approval.Request
			fits func(error) bool
		}{
			"in use":             {run, approval.Request{RequestID: "taken"}, func(err error) bool { return errors.Is(err, approval.ErrIDInUse) }},
			"another node":       {run, approval.Request{Node: "other"}, func(err error) bool { return errors.Is(err, approval.ErrNotYours) }},
			"unknown execution":  {"exec_unknown", approval.Request{}, func(err error) bool { return errors.Is(err, execution.ErrNotFound) }},
			"waiting already":    {taken.ExecutionID, approval.Request{}, func(err error) bool { return errors.As(err, &state) && state.Status == models.Waiting }},
			"another's waiting":  {taken.ExecutionID, approval.Request{Node: "other"}, func(err error) bool { return errors.Is(err, approval.ErrNotYours) }},
			"ended":              {r.put(t, seed{status: models.Succeeded}), approval.Request{}, func(err error) bool { return errors.As(err, &state) }},
			"queued":             {r.put(t, seed{status: models.Queued}), approval.Request{}, func(err error) bool { return errors.As(err, &state) }},
			"a forged token":     {run, approval.Request{Token: "1.00"}, func(err error) bool { return errors.Is(err, execution.ErrBadToken) }},
			"too long":           {run, approval.Request{Title: strings.Repeat("x", 301)}, func(err error) bool { return errors.As(err, &field) && field.Field == "title" }},
			"not text":           {run, approval.Request{Description: "a\x00b"}, func(err error) bool { return errors.As(err, &field) && field.Field == "description" }},
			"a script as a page": {run, approval.Request{URL: "javascript:alert(1)"}, func(err error) bool { return errors.As(err, &field) && field.Field == "approval_request_url" }},
			"no risk":            {run, approval.Request{Risk: "extreme"}, func(err error) bool { return errors.As(err, &field) && field.Field == "risk" }},
			"no end":             {run, approval.Request{OnReject: "explode"}, func(err error) bool { return errors.As(err, &field) && field.Field == "on_reject" }},
			"no end of time":     {run, approval.Request{OnExpire: "explode"}, func(err error) bool { return errors.As(err, &field) && field.Field == "on_expire" }},
			"too soon":           {run, approval.Request{ExpiresIn: time.Millisecond}, func(err error) bool { return errors.As(err, &field) && field.Field == "expires_in_hours" }},
			"no schema":          {run, approval.Request{Form: []byte(`{"type":"nothing"}`)}, func(err error) bool { return errors.As(err, &field) && field.Field == "form" }},
			"a form elsewhere":   {run, approval.Request{Form: []byte(`{"$ref":"https://evil.example/x.json"}`)}, func(err error) bool { return errors.As(err, &field) && field.Field == "form" }},
			"a form in a file":   {run, approval.Request{Form: []byte(`{"$ref":"file:///etc/passwd"}`)}, func(err error) bool { return errors.As(err, &field) && field.Field == "form" }},
			"a form of none":     {run, approval.Request{Form: []byte(`true`)}, func(err error) bool { return errors.As(err, &field) && field.Field == "form" }},
			"too few reviewers": {run, approval.Request{Policy: approval.Policy{Approvers: []string{"anna"}, Quorum: 2}}, func(err error) bool {
				return errors.As(err, &field) && field.Field == "policy.quorum"
			}},
			"one reviewer twice": {run, approval.Request{Policy: approval.Policy{Approvers: []string{"anna", "user:Anna"}, Quorum: 2}}, func(err error) bool {
				return errors.As(err, &field) && field.Field == "policy.quorum"
			}},
		} {
			if _, err := r.Ask(t.Context(), tc.id, tc.ask); !tc.fits(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		r.wantRow(t, run, models.Running, "")
		if n := r.count(t, "SELECT count(*) FROM approvals"); n != 1 {
			t.Errorf("%d requests are stored, not 1", n)
		}
		if after := r.count(t, "SELECT count(*) FROM events"); after != before {
			t.Errorf("%d events came of refused requests", after-before)
		}
		if row := r.row(t, run); row.Rounds != 0 || row.Holds != 0 {
			t.Errorf("a refused request left %d rounds and %d holds", row.Rounds, row.Holds)
		}
	})
}

func TestAnIDIsFreeAgainOnceItsRequestIsClosed(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		first := r.asked(t, approval.Request{RequestID: "claim"})
		r.decide(t, anna, "claim", approve(""))
		if stands := r.late(t, bert, "claim", approve("")); stands.Approval.ID != first.ID {
			t.Errorf("C16: the closed request answers, not %s", stands.Approval.ID)
		}
		r.clock.advance(time.Second)
		second := r.asked(t, approval.Request{RequestID: "claim"})
		r.decide(t, bert, "claim", approval.Decision{Word: models.Rejected, Feedback: "no"})
		r.wantStatus(t, first.ID, models.Approved)
		r.wantStatus(t, second.ID, models.Rejected)
		if stands := r.late(t, carl, "claim", approve("")); stands.Approval.ID != second.ID {
			t.Errorf("C16: the request closed last answers, not %s", stands.Approval.ID)
		}
	})
}

func TestTheSameRequestWithTheSameKeyIsAnsweredAgain(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		id := r.running(t)
		first := r.ask(t, id, approval.Request{Title: "Pay?", Key: "k"})
		again := r.ask(t, id, approval.Request{Title: "Pay?", Key: "k"})
		if again.ID != first.ID || again.RequestID != first.RequestID || r.count(t, "SELECT count(*) FROM approvals") != 1 {
			t.Errorf("a repeat made %s of %s", again.ID, first.ID)
		}
		r.decide(t, anna, first.ID, approve(""))
		if late := r.ask(t, id, approval.Request{Title: "Pay?", Key: "k"}); late.ID != first.ID || late.Status != models.Approved {
			t.Errorf("a repeat after the decision: %+v", late)
		}
		r.wantRow(t, id, models.Running, "approval_granted")
		if second := r.ask(t, id, approval.Request{Key: "k2"}); second.ID == first.ID || second.Round != 2 {
			t.Errorf("another key is another request: %+v", second)
		}
		if other := r.asked(t, approval.Request{Key: "k"}); other.ID == first.ID {
			t.Error("the key of one execution reached into another")
		}
		if _, err := r.Ask(t.Context(), id, approval.Request{Key: "k", Node: "other"}); !errors.Is(err, approval.ErrNotYours) {
			t.Errorf("another node repeats the request: %v", err)
		}
		if _, err := r.Ask(t.Context(), id, approval.Request{Key: "k", Token: "1.00"}); !errors.Is(err, execution.ErrBadToken) {
			t.Errorf("a forged token repeats the request: %v", err)
		}
	})
}

func TestEveryRoundStaysReadable(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		id := r.running(t)
		words := []models.ApprovalStatus{models.ChangesRequested, models.Rejected, models.ApprovalExpired, models.Approved}
		for i, word := range words {
			a := r.ask(t, id, approval.Request{RequestID: "round-" + string(word), ExpiresIn: time.Hour})
			if a.Round != i+1 {
				t.Errorf("round %d says %d", i+1, a.Round)
			}
			if word == models.ApprovalExpired {
				r.clock.advance(time.Hour)
				r.sweep(t)
				continue
			}
			r.decide(t, anna, a.RequestID, approval.Decision{Word: word, Feedback: "about " + string(word)})
		}
		for i, word := range words {
			a, _, err := r.Status(t.Context(), id, "round-"+string(word))
			if err != nil || a.Status != word || a.Round != i+1 {
				t.Errorf("S64: round %d is %v (%v)", i+1, a, err)
			}
			if word != models.ApprovalExpired && text(a.Feedback) != "about "+string(word) {
				t.Errorf("the words of round %d: %s", i+1, text(a.Feedback))
			}
		}
		if last, _, err := r.Status(t.Context(), id, ""); err != nil || last.Round != 4 {
			t.Errorf("without an id the last round answers: %v %v", last, err)
		}
		if _, _, err := r.Status(t.Context(), id, "another"); !errors.Is(err, approval.ErrNotFound) {
			t.Errorf("an unknown round: %v", err)
		}
	})
}
