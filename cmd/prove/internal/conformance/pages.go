package conformance

import (
	"net/http"
	"strings"
)

// shows reads a page as a browser without script does, and looks for what it has to say.
func (t *Trial) shows(path string, texts ...string) {
	page := t.Do(http.MethodGet, path, nil, "Accept", "text/html")
	t.Status(page, http.StatusOK)
	for _, text := range texts {
		t.True(strings.Contains(string(page.Body), text), "%s to show %q", path, text)
	}
}

// report posts as the agent of an execution does.
func (t *Trial) report(id, token, kind string, body fields) {
	t.Status(t.Do(http.MethodPost, "/api/v1/executions/"+id+"/"+kind, body, "X-Execution-Token", token), http.StatusOK)
}

// progressIsThereOnReturn looks at the pages, leaves, lets the work go on, and comes back to the same addresses.
func progressIsThereOnReturn(t *Trial) {
	id, token := t.handed(t.Agent())
	run := "/runs/" + t.Get(id).Text("run_id") + "?node=" + id
	t.report(id, token, "progress", fields{"progress": 0.25, "message": "a quarter is done"})
	t.shows("/executions/"+id, "Running", "a quarter is done", "25 %")
	t.shows(run, "Running", "a quarter is done")
	t.report(id, token, "progress", fields{"progress": 0.75, "message": "nearly there"})
	t.shows("/executions/"+id, "nearly there", "75 %")
	t.shows(run, "nearly there")
	t.report(id, token, "status", fields{"status": "succeeded", "result": fields{"answer": "forty-two"}})
	t.shows("/executions/"+id, "Succeeded", "forty-two")
	t.shows(run, "Succeeded", "forty-two")
}

// threePageStates: what runs shows its progress, what has ended its result, what failed its error.
func threePageStates(t *Trial) {
	a := t.Agent()
	running, token := t.handed(a)
	t.report(running, token, "progress", fields{"progress": 0.5, "message": "half way"})
	t.shows("/executions/"+running, "Running", "half way", "50 %")
	failed, other := t.handed(a)
	t.report(failed, other, "status", fields{"status": "failed", "error": "the model is overloaded"})
	t.shows("/executions/"+failed, "Failed", "the model is overloaded")
	t.report(running, token, "status", fields{"status": "succeeded", "result": fields{"answer": "forty-two"}})
	t.shows("/executions/"+running, "Succeeded", "forty-two")
}
