package execution_test

import (
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

func (r *rig) place(t *testing.T, id string) execution.Place {
	t.Helper()
	p, err := r.Place(t.Context(), r.row(t, id))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestThePlaceCountsTurnsNotQueues(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, _ *clock) {
		r := quiet(t, db)
		for range 40 {
			r.submit(t, asked("greedy", "f", 5))
		}
		first, second := r.submit(t, asked("modest", "f", 5)), r.submit(t, asked("modest", "f", 5))
		other := r.submit(t, asked("third", "g", 5))
		urgent, late := r.submit(t, asked("greedy", "f", 8)), r.submit(t, asked("modest", "f", 1))
		for id, ahead := range map[string]int{
			urgent: 0,
			first:  1 + 0 + 1 + 1, // the urgent one, and one turn of each other
			second: 1 + 1 + 2 + 1, // … its own first, two turns of the greedy, and all that the third has
			other:  1 + 0 + 1 + 1,
			late:   1 + 42 + 1,
		} {
			if p := r.place(t, id); p.Ahead != ahead || p.Hold != "" {
				t.Errorf("%+v, want %d ahead", p, ahead)
			}
		}
	})
}

func TestThePlaceNamesTheLimit(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		r := quiet(t, db)
		dbtest.Change(t, db, "UPDATE node_queues SET max_concurrency = 3 WHERE node_id = 'n'")
		limitFunction(t, db, "f", 1, 0)
		first, id, third := r.submit(t, asked("a", "f", 5)), r.submit(t, asked("a", "f", 5)), r.submit(t, asked("a", "f", 5))
		running := r.take(t, 1)[0]
		if running.ID() != first {
			t.Fatal("the first is not the first")
		}
		if p := r.place(t, third); p != (execution.Place{Ahead: 1, Hold: execution.HeldByCap, Of: "n.f", Running: 1, Cap: 1}) {
			t.Errorf("at the cap of its function: %+v", p)
		}
		for range 3 {
			r.submit(t, asked("a", "g", 5))
		}
		r.take(t, 2)
		limitFunction(t, db, "f", 0, 0)
		if p := r.place(t, id); p.Hold != execution.HeldByCap || p.Of != "n" || p.Running != 3 || p.Cap != 3 {
			t.Errorf("at the cap of its node: %+v", p)
		}
		r.end(t, running, execution.Answers, "null")
		limitFunction(t, db, "f", 0, 1)
		r.take(t, 1)
		left := id
		if r.row(t, id).Status == models.Running {
			left = third
		}
		dbtest.Change(t, db, "UPDATE node_queues SET max_concurrency = 0 WHERE node_id = 'n'")
		limitFunction(t, db, "f", 0, 30)
		r.take(t, 2) // one of each function
		last := r.submit(t, asked("a", "f", 5))
		p := r.place(t, last)
		if ahead := p.OpensAt - db.NowMs(); p.Hold != execution.HeldByRate || p.Of != "n.f" || p.PerMinute != 30 || ahead <= 0 || ahead > 2000 {
			t.Errorf("at the rate of its function: %+v, %d ms ahead; %s", p, ahead, left)
		}
		c.advance(time.Minute)
		if p := r.place(t, last); p.Hold != "" {
			t.Errorf("after its time: %+v", p)
		}
	})
}

func TestThePlaceBehindAKey(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, _ *clock) {
		r := quiet(t, db)
		r.submit(t, withKey("customer 7", 1))
		r.submit(t, withKey("customer 7", 1))
		third := r.submit(t, withKey("customer 7", 1))
		if p := r.place(t, third); p != (execution.Place{Ahead: 1, Hold: execution.HeldByKey, Of: "customer 7", Running: 1, Cap: 1}) {
			t.Errorf("%+v", p)
		}
	})
}
