package api_test

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestWhatIsUrgentAndWhatMustNotRunTogetherIsSaidInTheRequest(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		held, release := apptest.Held("hold", `{}`)
		r.Agent(t, "demo", held, apptest.Echo("echo"))
		r.Do(t, http.MethodPost, "/api/v1/nodes/demo/limits", `{"max_concurrency":1}`)
		first := r.Submit(t, "demo.hold", `{}`)
		r.Until(t, "the place is taken", func() bool { return r.Store.Status(t, first) == "running" })
		var ids []string
		for _, priority := range []int{0, 9, 5} {
			ids = append(ids, r.Submit(t, "demo.echo", `{"priority":`+strconv.Itoa(priority)+`,"concurrency":{"key":"k","limit":2}}`))
		}
		if got := r.Get(t, ids[1]); got.Text("priority") != "9" || got.Text("concurrency/key") != "k" || got.Text("concurrency/limit") != "2" {
			t.Errorf("it is shown as %s", got.Body)
		}
		if got := r.Get(t, first); got.Text("priority") != "5" || got.Has("concurrency") {
			t.Errorf("what asks for nothing is shown as %s", got.Body)
		}
		release()
		for _, id := range ids {
			hasAll(t, r.Ended(t, id), map[string]string{"status": "succeeded"})
		}
		if before := r.Store.Value(t, "SELECT count(*) FROM executions a JOIN executions b ON a.started_at > b.started_at WHERE a.id = $1 AND b.id = $2", ids[1], ids[0]); before != "0" {
			t.Error("the most urgent began after the least")
		}
		again := r.Do(t, http.MethodPost, "/api/v1/executions/"+ids[1]+"/rerun", nil)
		hasAll(t, r.Ended(t, again.Text("execution_id")), map[string]string{"priority": "9", "concurrency/key": "k"})
		for _, body := range []string{
			`{"priority":10}`, `{"priority":-1}`, `{"priority":1.5}`, `{"priority":"high"}`, `{"concurrency":{}}`, `{"concurrency":{"key":""}}`,
			`{"concurrency":{"key":"k","limit":-1}}`, `{"concurrency":{"key":"k","limit":1001}}`, `{"concurrency":"k"}`,
		} {
			s := scenario{ask: "POST /api/v1/execute/async/demo.echo", body: body, status: http.StatusBadRequest, row: "none"}
			if code := s.run(t, r).Text("code"); code != "invalid_parameter" && code != "invalid_json" {
				t.Errorf("%s: code %q", body, code)
			}
		}
	})
}

func TestAnExecutionSaysWhyItIsQueued(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		held, release := apptest.Held("hold", `{}`)
		r.Agent(t, "demo", held)
		defer release()
		r.Do(t, http.MethodPost, "/api/v1/nodes/demo/limits", `{"function":"hold","max_concurrency":1}`)
		first := r.Submit(t, "demo.hold", `{}`)
		r.Until(t, "the place is taken", func() bool { return r.Store.Status(t, first) == "running" })
		r.Submit(t, "demo.hold", `{}`)
		waits := r.Submit(t, "demo.hold", `{}`)
		hasAll(t, r.Get(t, waits), map[string]string{
			"status": "queued", "queue/hold": "cap", "queue/of": "demo.hold", "queue/running": "1", "queue/cap": "1", "queue/ahead": "1",
			"queue/reason": "^Queued for .*: demo.hold is at its limit \\(1 of 1\\); 1 ahead of it.$",
		})
		keyed := `{"concurrency":{"key":"customer 7"}}`
		r.Submit(t, "demo.hold", keyed)
		hasAll(t, r.Get(t, r.Submit(t, "demo.hold", keyed)), map[string]string{
			"queue/hold": "key", "queue/of": "customer 7", "queue/cap": "1", "queue/ahead": "0", "queue/reason": "^Queued for .*: the key customer 7 is held by others",
		})
		if got := r.Get(t, first); got.Has("queue") {
			t.Errorf("what is running waits for nothing: %s", got.Body)
		}
	})
}
