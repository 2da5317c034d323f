package execution_test

import (
	"errors"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

func TestARerunKeepsWhatWasAskedForAndNothingElse(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, echo)
		waited, err := r.Call(t.Context(), call(`{"n":1}`), false)
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.Rerun(t.Context(), waited.Row.ID, execution.Again{})
		if err != nil {
			t.Fatal(err)
		}
		if again.Row.DeadlineAt != nil {
			t.Error("the limit that synchronous calls have by default holds for the asynchronous rerun")
		}
		ended := r.finish(t, again.Row.ID)
		if string(ended.Result) != `{"n":1}` || ended.Row.RunID == waited.Row.RunID || ended.Row.RerunOf == nil || *ended.Row.RerunOf != waited.Row.ID {
			t.Errorf("%s %+v", ended.Result, ended.Row)
		}
		edited, err := r.Rerun(t.Context(), again.Row.ID, execution.Again{Input: []byte(`{"n":2}`)})
		if err != nil {
			t.Fatal(err)
		}
		if ended = r.finish(t, edited.Row.ID); string(ended.Result) != `{"n":2}` || *ended.Row.RerunOf != again.Row.ID {
			t.Errorf("%s, rerun of %s", ended.Result, *ended.Row.RerunOf)
		}
		if reruns, err := r.Reruns(t.Context(), waited.Row.ID, 10); err != nil || len(reruns) != 1 || reruns[0].ID != again.Row.ID {
			t.Errorf("reruns: %v %v", reruns, err)
		}
		dbtest.Change(t, db, "DELETE FROM execution_payloads WHERE execution_id = $1 AND kind = $2", waited.Row.ID, int16(models.PayloadInput))
		if _, err := r.Rerun(t.Context(), waited.Row.ID, execution.Again{}); !errors.Is(err, execution.ErrNoInput) {
			t.Errorf("without an input: %v", err)
		}
	})
}
