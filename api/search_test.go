package api_test

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestListsAreSearchedInTheFilterLanguage(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "support-eu", apptest.Echo("greet"), apptest.JSON("fail", 500, `{"error":"no route to <b>host</b>"}`))
		r.Agent(t, "billing", apptest.Echo("greet"))
		greeted := r.Execute(t, "support-eu.greet", `{}`, "X-Session-ID", "s1").Text("execution_id")
		failed := r.Execute(t, "support-eu.fail", `{}`).Text("execution_id")
		billed := r.Execute(t, "billing.greet", `{}`, "X-Session-ID", "s1").Text("execution_id")
		for q, want := range map[string][]string{
			"node:support-*":                {failed, greeted},
			"session:s1 -node:billing":      {greeted},
			`error:"no route"`:              {failed},
			"greet status:completed dur<1h": {billed, greeted},
			failed + " " + billed:           {billed, failed},
		} {
			answer := r.Do(t, http.MethodGet, "/api/v1/executions?q="+url.QueryEscape(q), nil)
			if got := listed(answer); !slices.Equal(got, want) {
				t.Errorf("%s: %v, not %v: %s", q, got, want, answer.Body)
			}
		}
		runAll(t, r, []scenario{
			{
				name: "an unknown key", ask: "GET /api/v1/executions?q=" + url.QueryEscape("é sesion:s1"), status: http.StatusBadRequest,
				must: map[string]string{"code": "invalid_filter", "position": "3"}, says: "Did you mean session?",
			},
			{
				name: "a value that does not fit", ask: "GET /api/v1/executions?q=" + url.QueryEscape("status:failed dur:10"), status: http.StatusBadRequest,
				must: map[string]string{"code": "invalid_filter", "position": "19"}, says: "does not fit dur",
			},
			{name: "values of a key", ask: "GET /api/v1/suggest?key=node&prefix=support", status: http.StatusOK, must: map[string]string{"key": "node", "values": `["support-eu"]`}},
			{name: "words of a key", ask: "GET /api/v1/suggest?key=status&prefix=fa", status: http.StatusOK, must: map[string]string{"values": `["failed"]`}},
			{name: "nothing to suggest", ask: "GET /api/v1/suggest?key=steps&prefix=", status: http.StatusOK, must: map[string]string{"key": "steps", "values": "[]"}},
			{name: "no such key", ask: "GET /api/v1/suggest?key=colour", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "no text", ask: "GET /api/v1/suggest?key=node&prefix=%00", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
		})
	})
}

// A person gets the rest of the filter and is told on the page.
func TestThePageSaysWhatItDidNotUnderstand(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "billing", apptest.Echo("greet"))
		r.Agent(t, "support", apptest.Echo("greet"))
		there := r.Execute(t, "billing.greet", `{}`).Text("execution_id")
		other := r.Execute(t, "support.greet", `{}`).Text("execution_id")
		page := string(r.Do(t, http.MethodGet, "/executions?q="+url.QueryEscape("node:billing sesion:<b>"), nil).Body)
		for _, want := range []string{there, "Did you mean session?", "The rest of the filter holds.", "<mark>sesion:&lt;b&gt;</mark>", "Use node:billing session:&lt;b&gt;"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
		if strings.Contains(page, "row-"+other) {
			t.Error("the part that was understood does not narrow the list")
		}
		options := string(r.Do(t, http.MethodGet, "/suggest?key=node&prefix=b", nil).Body)
		if options != `<option value="billing"></option>` {
			t.Errorf("suggestions for the page: %s", options)
		}
	})
}

func TestRunsAreSearchedByTheirTotals(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "support-eu", apptest.Echo("greet"), apptest.JSON("fail", 500, `{"error":"no"}`))
		r.Agent(t, "billing", apptest.Echo("greet"))
		named := r.Execute(t, "support-eu.greet", `{}`, "X-Workflow-ID", "wf-ada", "X-Session-ID", "s1").Text("run_id")
		r.Execute(t, "support-eu.greet", `{}`, "X-Workflow-ID", "wf-ada")
		failed := r.Execute(t, "support-eu.fail", `{}`).Text("run_id")
		billed := r.Execute(t, "billing.greet", `{}`).Text("run_id")
		for q, want := range map[string][]string{
			"":                        {billed, failed, named},
			"status:failed":           {failed},
			"-status:failed,timeout":  {billed, named},
			"failed:>0":               {failed},
			"steps:>1":                {named},
			"steps:1 node:support-*":  {failed},
			"run:wf-ada":              {named},
			"run:wf-*":                {named},
			"wf-ada":                  {named},
			failed[:len(failed)-2]:    {failed},
			"session:s1":              {named},
			"target:greet":            {billed, named},
			"target:support-eu.*":     {failed, named},
			"function:gre*":           {billed, named},
			"upport":                  {failed, named},
			"age:<1h dur:<1h":         {billed, failed, named},
			"started:<2020-01-01":     {},
			"waiting:>0":              {},
			"-session:* -run:nothing": {billed, failed},
		} {
			answer := r.Do(t, http.MethodGet, "/api/v1/runs?q="+url.QueryEscape(q), nil)
			got := []string{}
			for i := range max(answer.Len("runs"), 0) {
				got = append(got, answer.Text("runs/"+strconv.Itoa(i)+"/run_id"))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, not %v: %s", q, got, want, answer.Body)
			}
		}
		scenario{ask: "GET /api/v1/runs?q=attempt:2", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_filter", "position": "1"}}.run(t, r)
		if page := string(r.Do(t, http.MethodGet, "/runs?q="+url.QueryEscape("node:billing stepps:1"), nil).Body); !strings.Contains(page, "Did you mean steps?") || strings.Contains(page, failed) {
			t.Error("the page of runs does not say what it did not understand, or does not narrow")
		}
	})
}
