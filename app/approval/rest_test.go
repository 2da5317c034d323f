package approval_test

import (
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/models"
)

func (r *rig) deadline(t *testing.T, id string) *int64 { return r.row(t, id).DeadlineAt }

// Time with a person is charged neither to the execution that waits nor to those above it (R26).
func TestDeadlinesRestWhileSomebodyThinks(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		limit := r.db.NowMs() + (2 * time.Hour).Milliseconds()
		top := r.put(t, seed{deadline: limit})
		parent := r.put(t, seed{parent: top, deadline: limit})
		child := r.put(t, seed{parent: parent, deadline: limit})
		sibling := r.put(t, seed{parent: parent, deadline: limit})
		unrelated := r.put(t, seed{deadline: limit})
		chain := []string{top, parent, child}

		r.clock.advance(30 * time.Minute)
		a := r.ask(t, child, approval.Request{})
		for _, id := range chain {
			if row := r.row(t, id); row.DeadlineAt != nil || text(row.DeadlineLeftMs) != "5400000" || row.Holds != 1 {
				t.Errorf("%s waits with deadline %s, %s left, %d holds", id, text(row.DeadlineAt), text(row.DeadlineLeftMs), row.Holds)
			}
		}
		for _, id := range []string{sibling, unrelated} {
			if at := r.deadline(t, id); text(at) != text(&limit) {
				t.Errorf("the deadline of another moved to %s", text(at))
			}
		}
		r.clock.advance(10 * time.Minute)
		second := r.ask(t, sibling, approval.Request{}) // the parent rests on two now
		r.clock.advance(24 * time.Hour)
		r.decide(t, anna, a.ID, approve(""))
		if row := r.row(t, parent); row.DeadlineAt != nil || row.Holds != 1 {
			t.Errorf("one of two decided: deadline %s, %d holds", text(row.DeadlineAt), row.Holds)
		}
		if want := r.db.NowMs() + (90 * time.Minute).Milliseconds(); text(r.deadline(t, child)) != text(&want) {
			t.Errorf("the child goes on until %s, not %d", text(r.deadline(t, child)), want)
		}
		r.clock.advance(time.Hour)
		r.decide(t, anna, second.ID, approve(""))
		for _, id := range []string{top, parent} {
			want := r.db.NowMs() + (90 * time.Minute).Milliseconds()
			if row := r.row(t, id); text(row.DeadlineAt) != text(&want) || row.Holds != 0 || row.DeadlineLeftMs != nil {
				t.Errorf("%s goes on until %s, not %d; %d holds", id, text(row.DeadlineAt), want, row.Holds)
			}
		}
	})
}

func TestEveryWayOutOfWaitingEndsTheRest(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for name, leave := range map[string]func(a *models.Approval){
			"a decision":      func(a *models.Approval) { r.decide(t, anna, a.ID, approve("")) },
			"a cancel":        func(a *models.Approval) { r.cancel(t, a.ExecutionID) },
			"an expiry":       func(*models.Approval) { r.clock.advance(time.Hour); r.sweep(t) },
			"a rejecting end": func(a *models.Approval) { r.decide(t, anna, a.ID, approval.Decision{Word: models.Rejected}) },
		} {
			limit := r.db.NowMs() + (2 * time.Hour).Milliseconds()
			parent := r.put(t, seed{deadline: limit})
			child := r.put(t, seed{parent: parent, deadline: limit})
			leave(r.ask(t, child, approval.Request{ExpiresIn: time.Hour, OnReject: "cancel"}))
			if row := r.row(t, parent); row.Holds != 0 || row.DeadlineAt == nil || *row.DeadlineAt != r.db.NowMs()+(2*time.Hour).Milliseconds() {
				t.Errorf("%s: the parent has %d holds, deadline %s", name, row.Holds, text(row.DeadlineAt))
			}
		}
	})
}

// Callers name their parents themselves: a circle must neither hang the server nor keep a deadline from coming.
func TestForgedParentsInACircle(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		limit := r.db.NowMs() + time.Hour.Milliseconds()
		one := r.put(t, seed{deadline: limit})
		two := r.put(t, seed{parent: one, deadline: limit})
		r.change(t, "UPDATE executions SET parent_id = $1 WHERE id = $2", two, one)
		a := r.ask(t, two, approval.Request{})
		r.decide(t, anna, a.ID, approve(""))
		for _, id := range []string{one, two} {
			if row := r.row(t, id); row.Holds != 0 || text(row.DeadlineAt) != text(&limit) {
				t.Errorf("%s has %d holds, deadline %s", id, row.Holds, text(row.DeadlineAt))
			}
		}
	})
}

// Many children of one parent ask and are decided at the same time: the locks above them are taken by all.
func TestSiblingsAskAndAreDecidedTogether(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		limit := r.db.NowMs() + time.Hour.Milliseconds()
		top := r.put(t, seed{deadline: limit})
		parent := r.put(t, seed{parent: top, deadline: limit})
		var children sync.WaitGroup
		for range 24 {
			id := r.put(t, seed{parent: parent, deadline: limit})
			children.Go(func() {
				a, err := r.Ask(t.Context(), id, approval.Request{})
				if err != nil {
					t.Errorf("ask: %v", err)
					return
				}
				if _, err := r.Decide(t.Context(), anna, a.ID, approve("")); err != nil {
					t.Errorf("decide: %v", err)
				}
			})
		}
		children.Wait()
		for _, id := range []string{top, parent} {
			if row := r.row(t, id); row.Holds != 0 || text(row.DeadlineAt) != text(&limit) {
				t.Errorf("%s has %d holds, deadline %s, not %d", id, row.Holds, text(row.DeadlineAt), limit)
			}
		}
	})
}
