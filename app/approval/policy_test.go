package approval_test

import (
	"errors"
	"testing"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/models"
)

func TestOnlyThoseWhomThePolicyNamesDecide(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		boss := reviewer("boss")
		boss.Role = "admin"
		accountant := reviewer("carl")
		accountant.Groups = []string{"Accounting", "all"}
		viewer := reviewer("vera")
		viewer.May, viewer.Role = false, "viewer"
		agent := reviewer("anna")
		agent.Agent = true
		agentOfAll := agent
		agentOfAll.Role, agentOfAll.Groups = "admin", []string{"accounting"}
		for name, tc := range map[string]struct {
			policy approval.Policy
			who    approval.Person
			want   error
		}{
			"no policy":                     {approval.Policy{}, anna, nil},
			"no policy, a viewer":           {approval.Policy{}, viewer, approval.ErrNoRight},
			"no policy, an agent":           {approval.Policy{}, agent, approval.ErrAgent},
			"named":                         {approval.Policy{Approvers: []string{"anna"}}, anna, nil},
			"named in capitals":             {approval.Policy{Approvers: []string{"ANNA"}}, anna, nil},
			"named as a user":               {approval.Policy{Approvers: []string{"user:anna"}}, anna, nil},
			"another is named":              {approval.Policy{Approvers: []string{"bert"}}, anna, approval.ErrNotNamed},
			"a name is no prefix":           {approval.Policy{Approvers: []string{"ann"}}, anna, approval.ErrNotNamed},
			"of the group":                  {approval.Policy{Approvers: []string{"group:accounting"}}, accountant, nil},
			"not of the group":              {approval.Policy{Approvers: []string{"group:accounting"}}, anna, approval.ErrNotNamed},
			"a name is no group":            {approval.Policy{Approvers: []string{"group:anna"}}, anna, approval.ErrNotNamed},
			"of the role":                   {approval.Policy{Approvers: []string{"role:admin"}}, boss, nil},
			"not of the role":               {approval.Policy{Approvers: []string{"role:admin"}}, anna, approval.ErrNotNamed},
			"one of several":                {approval.Policy{Approvers: []string{"role:admin", "group:accounting", "anna"}}, anna, nil},
			"an unknown kind":               {approval.Policy{Approvers: []string{"team:anna"}}, anna, approval.ErrNotNamed},
			"a named viewer":                {approval.Policy{Approvers: []string{"vera"}}, viewer, approval.ErrNoRight},
			"a named agent":                 {approval.Policy{Approvers: []string{"anna"}}, agent, approval.ErrAgent},
			"an agent with role and groups": {approval.Policy{Approvers: []string{"role:admin", "group:accounting"}}, agentOfAll, approval.ErrAgent},
		} {
			a := r.asked(t, approval.Request{Policy: tc.policy})
			for _, word := range []models.ApprovalStatus{models.Rejected, models.Approved} {
				if tc.want != nil {
					r.refused(t, tc.who, a.ID, approval.Decision{Word: word}, tc.want)
				}
			}
			if tc.want == nil {
				r.decide(t, tc.who, a.ID, approve(name))
				continue
			}
			r.wantStatus(t, a.ID, models.ApprovalPending)
			r.wantActs(t, a, "refused", "refused")
		}
	})
}

func TestNobodyApprovesTheirOwnExecution(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for actor, own := range map[string]bool{"anna": true, "user:anna": true, "Anna": true, "bert": false, "": false} {
			strict := r.ask(t, r.put(t, seed{actor: actor}), approval.Request{Policy: approval.Policy{NoSelfApproval: true}})
			if own {
				r.refused(t, anna, strict.ID, approve(""), approval.ErrSelf)
				r.wantStatus(t, strict.ID, models.ApprovalPending)
			} else {
				r.decide(t, anna, strict.ID, approve(""))
			}
			lax := r.ask(t, r.put(t, seed{actor: actor}), approval.Request{})
			r.decide(t, anna, lax.ID, approve(""))
		}
	})
}

// Whoever sent the request that began it all is known by their credential, whatever the headers say.
func TestNobodyApprovesWhatTheirOwnRequestLedTo(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for starter, own := range map[string]bool{"user:anna": true, "user:bert": false, "": false} {
			root := r.put(t, seed{actor: "somebody-else", starter: starter})
			called := r.put(t, seed{actor: "somebody-else", parent: root})
			a := r.ask(t, called, approval.Request{Policy: approval.Policy{NoSelfApproval: true}})
			if own {
				r.refused(t, anna, a.ID, approve(""), approval.ErrSelf)
				r.wantStatus(t, a.ID, models.ApprovalPending)
			} else {
				r.decide(t, anna, a.ID, approve(""))
			}
		}
	})
}

func TestAServiceIsNobodyByName(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		service := approval.Person{ID: "key:key_1", Name: "anna", May: true}
		a := r.asked(t, approval.Request{Policy: approval.Policy{Approvers: []string{"anna", "user:anna"}}})
		r.refused(t, service, a.ID, approve(""), approval.ErrNotNamed)
		r.decide(t, anna, a.ID, approve(""))
	})
}

func TestSeveralHaveToApprove(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		two := approval.Policy{Quorum: 2}
		a := r.asked(t, approval.Request{Policy: two})
		if one := r.decide(t, anna, a.ID, approve("one")); one.Approval.Status != models.ApprovalPending {
			t.Errorf("after one of two: %s", one.Approval.Status)
		}
		r.decide(t, anna, a.ID, approve("one again"))
		r.wantStatus(t, a.ID, models.ApprovalPending)
		r.wantRow(t, a.ExecutionID, models.Waiting, "waiting_for_approval")
		if votes, err := r.Votes(t.Context(), a.ID); err != nil || len(votes) != 1 || votes[0].Voter != "anna" || votes[0].Feedback != "one" {
			t.Errorf("votes: %+v %v", votes, err)
		}
		if done := r.decide(t, bert, a.ID, approve("two")); done.Approval.Status != models.Approved {
			t.Errorf("after two of two: %s", done.Approval.Status)
		}
		r.wantRow(t, a.ExecutionID, models.Running, "approval_granted")
		r.wantActs(t, a, "voted", "approved")

		no := r.asked(t, approval.Request{Policy: two})
		r.decide(t, anna, no.ID, approve(""))
		r.decide(t, bert, no.ID, approval.Decision{Word: models.Rejected, Feedback: "no"})
		r.wantStatus(t, no.ID, models.Rejected)
	})
}

// The pages send the version that a reviewer has seen. A voice for a request does not change what the others look at.
func TestVoicesFromPagesThatWereOpenedBefore(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{Policy: approval.Policy{Quorum: 3}})
		seen := approval.Decision{Word: models.Approved, Version: a.Version, Hold: true}
		r.decide(t, anna, a.ID, seen)
		r.decide(t, bert, a.ID, seen)
		r.wantStatus(t, a.ID, models.ApprovalPending)
		held := r.decide(t, carl, a.ID, seen)
		if held.Approval.Status != models.ApprovalHeld {
			t.Fatalf("the last voice: %s", held.Approval.Status)
		}
		if _, err := r.Undo(t.Context(), anna, a.ID); !errors.Is(err, approval.ErrNothingHeld) {
			t.Errorf("another than the last withdraws: %v", err)
		}
		if _, err := r.Undo(t.Context(), carl, a.ID); err != nil {
			t.Fatal(err)
		}
		if votes, err := r.Votes(t.Context(), a.ID); err != nil || len(votes) != 2 {
			t.Errorf("after the undo: %+v %v", votes, err)
		}
		r.decide(t, carl, a.ID, approval.Decision{Word: models.Approved})
		r.wantStatus(t, a.ID, models.Approved)
		r.wantRow(t, a.ExecutionID, models.Running, "approval_granted")
	})
}

func TestWhatSeveralApproveIsNotEditedByTheLast(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := r.asked(t, approval.Request{Policy: approval.Policy{Quorum: 2}, Payload: []byte(`{"amount":7}`), Editable: true})
		r.decide(t, anna, a.ID, approve(""))
		var field *approval.FieldError
		if _, err := r.Decide(t.Context(), bert, a.ID, approval.Decision{Word: models.Approved, Edited: []byte(`{"amount":7000}`)}); !errors.As(err, &field) || field.Field != "edited" {
			t.Errorf("an edit that anna has never seen: %v", err)
		}
		r.wantStatus(t, a.ID, models.ApprovalPending)
	})
}
