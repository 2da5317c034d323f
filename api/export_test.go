package api_test

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

func TestAnExportIsTheFilteredList(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"), apptest.JSON("fail", 500, `{"error":"=HYPERLINK(\"http://evil\")\nsecond, line"}`))
		for range 3 {
			r.Execute(t, "demo.echo", `{}`, "X-Session-ID", "@session")
		}
		failed := r.Execute(t, "demo.fail", `{}`).Text("execution_id")
		whole := listed(r.Do(t, http.MethodGet, "/api/v1/executions", nil))

		sheet := r.Do(t, http.MethodGet, "/api/v1/executions.csv?limit=1", nil)
		rows, err := csv.NewReader(strings.NewReader(string(sheet.Body))).ReadAll()
		if err != nil || len(rows) != 5 {
			t.Fatalf("%v: %s", err, sheet.Body)
		}
		column := func(name string, row int) string { return rows[row][slices.Index(rows[0], name)] }
		if column("execution_id", 1) != failed || column("error", 1) != "'=HYPERLINK(\"http://evil\")\nsecond, line" || column("session_id", 2) != "'@session" {
			t.Errorf("cells: %q", rows)
		}
		if d := sheet.Header.Get("Content-Disposition"); !regexp.MustCompile(`^attachment; filename="executions-\d{8}-\d{6}\.csv"$`).MatchString(d) {
			t.Errorf("the file is called %s", d)
		}

		lines := r.Do(t, http.MethodGet, "/api/v1/executions.ndjson", nil)
		var ids []string
		for line := range strings.Lines(string(lines.Body)) {
			ids = append(ids, apptest.Answer{Body: []byte(line)}.Text("execution_id"))
		}
		if !slices.Equal(ids, whole) {
			t.Errorf("the lines are %v, the list is %v", ids, whole)
		}
		object := r.Do(t, http.MethodGet, "/api/v1/executions.json?q="+url.QueryEscape("status:failed -node:x"), nil)
		if got := listed(object); !slices.Equal(got, []string{failed}) || object.Text("truncated") != "false" {
			t.Errorf("as JSON: %s", object.Body)
		}
		if d := object.Header.Get("Content-Disposition"); !strings.Contains(d, "executions-status-failed-node-x-") {
			t.Errorf("the file is called %s", d)
		}
		none := r.Do(t, http.MethodGet, "/api/v1/executions.json?status=queued", nil)
		if string(none.Body) != `{"executions":[],"truncated":false}` {
			t.Errorf("nothing is %s", none.Body)
		}
		runAll(t, r, []scenario{
			{name: "a filter that is not understood", ask: "GET /api/v1/executions.csv?q=colour:red", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_filter"}},
			{name: "no such form", ask: "GET /api/v1/executions.xlsx", status: http.StatusNotFound},
		})
	})
}

func TestALongExportSaysThatItIsCut(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		for range 3 {
			r.Execute(t, "demo.echo", `{}`)
		}
		sheet := strings.Split(strings.TrimSpace(string(r.Do(t, http.MethodGet, "/api/v1/executions.csv", nil).Body)), "\n")
		if len(sheet) != 4 || !strings.HasPrefix(sheet[3], "# cut after 2 rows; go on with until=") {
			t.Errorf("as CSV: %q", sheet)
		}
		lines := strings.Split(strings.TrimSpace(string(r.Do(t, http.MethodGet, "/api/v1/executions.ndjson", nil).Body)), "\n")
		hasAll(t, apptest.Answer{Body: []byte(lines[2])}, map[string]string{"truncated": "true", "rows": "2", "until": instant})
		object := r.Do(t, http.MethodGet, "/api/v1/executions.json", nil)
		hasAll(t, object, map[string]string{"truncated": "true", "rows": "2", "until": instant})
		if rest := listed(r.Do(t, http.MethodGet, "/api/v1/executions?until="+object.Text("until"), nil)); len(rest) < 2 {
			t.Errorf("from there on it goes on with %v", rest)
		}
	}, func(c *config.Config) { c.ExportLimit = 2 })
}

func TestWhatAPersonExportsIsRecorded(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Do(t, http.MethodGet, "/api/v1/executions.csv", nil)
		r.Do(t, http.MethodGet, "/executions.csv?q=status:failed", nil)
		entries := r.Do(t, http.MethodGet, "/api/v1/audit?action=executions", nil)
		hasAll(t, entries, map[string]string{
			"entries/0/action": "executions.exported", "entries/0/object": "csv", "entries/0/channel": "ui", "entries/0/after/filter": "q=status:failed",
		})
		if entries.Len("entries") != 1 {
			t.Errorf("recorded are %s", entries.Body)
		}
	})
}

func TestRunsAreExportedAndTheirFiltersKept(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"), apptest.JSON("fail", 500, `{"error":"no"}`))
		for range 2 {
			r.Execute(t, "demo.echo", `{}`, "X-Workflow-ID", "=wf")
		}
		run := r.Execute(t, "demo.fail", `{}`).Text("run_id")
		rows, err := csv.NewReader(strings.NewReader(string(r.Do(t, http.MethodGet, "/api/v1/runs.csv", nil).Body))).ReadAll()
		if err != nil || len(rows) != 3 {
			t.Fatalf("%v: %q", err, rows)
		}
		column := func(name string, row int) string { return rows[row][slices.Index(rows[0], name)] }
		if column("run_id", 1) != run || column("status", 1) != "failed" || column("workflow_id", 2) != "'=wf" || column("total", 2) != "2" {
			t.Errorf("cells: %q", rows)
		}
		lines := strings.Split(strings.TrimSpace(string(r.Do(t, http.MethodGet, "/api/v1/runs.ndjson?status=failed", nil).Body)), "\n")
		if len(lines) != 1 || !strings.Contains(lines[0], run) {
			t.Errorf("the failed ones: %q", lines)
		}
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/runs.json?target=demo.fail", nil), map[string]string{"runs/0/run_id": run, "truncated": "false"})
		scenario{name: "a filter that is not understood", ask: "GET /api/v1/runs.csv?q=colour:red", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_filter"}}.run(t, r)

		d := newDoor(t, r.URL)
		saved := d.form(caller{}, "/views", "list", "runs", "name", "Failures", "next", "status=failed&cursor=x")
		if saved.status != http.StatusSeeOther || !strings.HasPrefix(saved.location, "/runs?status=failed&view=") {
			t.Fatalf("a filter of runs: %d %s", saved.status, saved.location)
		}
		shown := d.ask(caller{}, http.MethodGet, saved.location, "")
		if !strings.Contains(shown.body, "Failures") || !strings.Contains(shown.body, "/runs.csv?status=failed") || strings.Contains(shown.body, "demo.</span>echo") {
			t.Errorf("the view is shown as %s", shown.body)
		}
		id := saved.location[strings.LastIndex(saved.location, "=")+1:]
		if alone := d.ask(caller{}, http.MethodGet, "/runs?view="+id, ""); alone.status != http.StatusFound || alone.location != saved.location {
			t.Errorf("by its name alone it leads to %d %s", alone.status, alone.location)
		}
	})
}
