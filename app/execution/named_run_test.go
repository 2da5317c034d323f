package execution_test

import (
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
)

// Agents pass on the run id alone; what they call keeps the name that the run's first caller gave it.
func TestARunKeepsTheNameItsCallersGaveIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, echo)
		first := call(`{}`)
		first.WorkflowID = "wf_named"
		parent, err := r.Call(t.Context(), first, false)
		if err != nil {
			t.Fatal(err)
		}
		byRun, byName, both := call(`{}`), call(`{}`), call(`{}`)
		byRun.RunID = parent.Row.RunID
		byName.WorkflowID = parent.Row.RunID
		both.RunID, both.WorkflowID = "run_given", "wf_given"
		for what, sub := range map[string]struct {
			run, name string
			started   func() (string, string, error)
		}{
			"the run id alone": {parent.Row.RunID, "wf_named", func() (string, string, error) {
				f, err := r.Call(t.Context(), byRun, false)
				return f.Row.RunID, f.Row.Workflow(), err
			}},
			"the run id as a name": {parent.Row.RunID, "wf_named", func() (string, string, error) {
				f, err := r.Call(t.Context(), byName, false)
				return f.Row.RunID, f.Row.Workflow(), err
			}},
			"both, of an unknown run": {"run_given", "wf_given", func() (string, string, error) {
				f, err := r.Call(t.Context(), both, false)
				return f.Row.RunID, f.Row.Workflow(), err
			}},
		} {
			run, name, err := sub.started()
			if err != nil || run != sub.run || name != sub.name {
				t.Errorf("%s: run %q named %q (%v), want %q named %q", what, run, name, err, sub.run, sub.name)
			}
		}
	})
}
