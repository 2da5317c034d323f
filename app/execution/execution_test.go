package execution_test

import (
	"sync"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

func TestSyncAndAsyncGiveTheSameResult(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, echo)
		f, err := r.Call(t.Context(), call(`{"name":"Alice"}`), false)
		if err != nil {
			t.Fatal(err)
		}
		started, err := r.Submit(t.Context(), call(`{"name":"Alice"}`))
		if err != nil {
			t.Fatal(err)
		}
		g := r.finish(t, started.Row.ID)
		for _, x := range []execution.Finished{f, g} {
			if x.Row.Status != models.Succeeded || string(x.Result) != `{"name":"Alice"}` {
				t.Errorf("got %s %s", x.Row.Status, x.Result)
			}
		}
		wantKinds(t, r, g.Row.ID, "[queued running succeeded]")
	})
}

func TestManyAtOnceAllEndOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, echo)
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				if i%2 == 0 {
					f, err := r.Call(t.Context(), call(`{}`), false)
					if err != nil || f.Row.Status != models.Succeeded {
						t.Errorf("sync: %v %v", f.Row, err)
					}
					return
				}
				started, err := r.Submit(t.Context(), call(`{}`))
				if err != nil {
					t.Errorf("async: %v", err)
					return
				}
				if f := r.finish(t, started.Row.ID); f.Row.Status != models.Succeeded {
					t.Errorf("async ended %s", f.Row.Status)
				}
			})
		}
		wg.Wait()
	})
}
