package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/apptest"
)

func pageOf(t *testing.T, r *apptest.Rig, path string) string {
	t.Helper()
	answer := r.Do(t, http.MethodGet, path, nil)
	if answer.Status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, answer.Status, answer.Body)
	}
	return string(answer.Body)
}

func wantWords(t *testing.T, html string, there, not []string) {
	t.Helper()
	for _, words := range there {
		if !strings.Contains(html, words) {
			t.Errorf("the page does not say %q", words)
		}
	}
	for _, words := range not {
		if strings.Contains(html, words) {
			t.Errorf("the page says %q", words)
		}
	}
}

func TestEverythingSaidAboutAnExecutionIsOnOneClock(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		id := call.ExecutionID
		for _, level := range []string{"debug", "info", "warn", "error"} {
			r.Do(t, http.MethodPost, "/api/v1/executions/"+id+"/logs", map[string]any{"message": "logged <" + level + ">", "level": level, "agent_node_id": "demo"})
		}
		r.Do(t, http.MethodPost, "/api/v1/executions/note", `{"message":"a remark","tags":["plan"]}`, "X-Execution-ID", id)
		r.Do(t, http.MethodPost, "/api/v1/executions/"+id+"/progress", `{"progress":0.4,"message":"on page 4","partial":{"so":"far"}}`)
		path := "/executions/" + id
		wantWords(t, pageOf(t, r, path), []string{
			"logged &lt;debug&gt;", "logged &lt;error&gt;", "a remark", "plan", "Progress 40 %", "on page 4", "Result so far", "last sign of life",
		}, []string{"<debug>"})
		for query, c := range map[string]struct{ there, not []string }{
			"level=warn":           {[]string{"&lt;warn&gt;", "&lt;error&gt;"}, []string{"&lt;info&gt;", "a remark"}},
			"level=error":          {[]string{"&lt;error&gt;"}, []string{"&lt;warn&gt;"}},
			"level=info":           {[]string{"&lt;info&gt;"}, []string{"&lt;debug&gt;"}},
			"level=notes":          {[]string{"a remark", "Progress 40 %"}, []string{"logged"}},
			"level=status":         {[]string{"Queued"}, []string{"logged", "a remark"}},
			"q=REMARK":             {[]string{"a remark"}, []string{"logged"}},
			"q=plan":               {[]string{"a remark"}, []string{"logged"}},
			"q=nothing+like+it":    {[]string{"Nothing fits."}, nil},
			"level=warn&q=error":   {[]string{"&lt;error&gt;"}, []string{"&lt;warn&gt;"}},
			"after=99999999999999": {[]string{"Nothing fits."}, []string{"a remark"}},
		} {
			html := pageOf(t, r, path+"?"+query)
			_, clock, _ := strings.Cut(html, `id="history-title"`)
			wantWords(t, clock, c.there, c.not)
		}
		for _, bad := range []string{"level=loud", "after=x", "q=" + strings.Repeat("x", 300)} {
			if got := r.Do(t, http.MethodGet, path+"?"+bad, nil); got.Status != http.StatusBadRequest {
				t.Errorf("%s: %d", bad, got.Status)
			}
		}
	})
}

func TestWhoComesBackIsToldWhatHappened(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		path := "/executions/" + call.ExecutionID
		none := []string{"Since you left"}
		wantWords(t, pageOf(t, r, path), nil, none)
		r.Do(t, http.MethodPost, "/api/v1/executions/note", `{"message":"m"}`, "X-Execution-ID", call.ExecutionID)
		wantWords(t, pageOf(t, r, path), nil, none) // they have hardly been away
		r.Clock.Advance(42 * time.Minute)
		wantWords(t, pageOf(t, r, path), nil, none) // nothing has happened
		report(t, r, call, `{"status":"succeeded"}`)
		r.Clock.Advance(10 * time.Minute)
		part := string(r.Do(t, http.MethodGet, path, nil, "HX-Request", "true", "HX-Target", "execution").Body)
		wantWords(t, part, []string{"Succeeded"}, none)
		wantWords(t, pageOf(t, r, path), []string{"Since you left", "succeeded", "?after="}, nil)
		wantWords(t, pageOf(t, r, path), nil, none)
		saw := r.Do(t, http.MethodPost, path+"/seen", nil, "Sec-Fetch-Site", "same-origin")
		if saw.Status != http.StatusNoContent || r.Store.Value(t, "SELECT count(*) FROM last_seen") != "1" {
			t.Errorf("%d", saw.Status)
		}
	})
}

func TestTwoExecutionsAreCompared(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"), apptest.JSON("fail", 500, `{"error":"no luck"}`))
		a := r.Execute(t, "demo.echo", `{"input":{"n":1.0,"same":"x"}}`).Text("execution_id")
		b := r.Do(t, http.MethodPost, "/api/v1/executions/"+a+"/rerun", `{"input":{"n":2.50,"same":"x"}}`).Text("execution_id")
		r.Ended(t, b)
		failed := r.Execute(t, "demo.fail", `{}`).Text("execution_id")
		wantWords(t, pageOf(t, r, "/executions/compare?a="+a+"&b="+b), []string{"1.0", "2.50", "Input", "Output"}, []string{">same<"})
		wantWords(t, pageOf(t, r, "/executions/compare?a="+a+"&b="+failed), []string{"Failed", "Succeeded", "no luck", ", differs"}, nil)
		wantWords(t, pageOf(t, r, "/executions/compare?a="+a+"&b="+a), []string{"The same in both."}, []string{", differs"})
		wantWords(t, pageOf(t, r, "/executions/compare?a="+a), []string{`name="b"`, a}, []string{"Output"})
		wantWords(t, pageOf(t, r, "/executions/compare"), []string{`name="a"`}, nil)
		if got := r.Do(t, http.MethodGet, "/executions/compare?a="+a+"&b=exec_unknown", nil); got.Status != http.StatusNotFound {
			t.Errorf("%d", got.Status)
		}
		wantWords(t, pageOf(t, r, "/executions/"+b), []string{"It repeats", "compare the two"}, nil)
		wantWords(t, pageOf(t, r, "/executions/"+a), []string{"Repeated as", fmt.Sprintf("/executions/compare?a=%s&amp;b=%s", a, b)}, nil)
	})
}

func TestWhoComesBackToARunIsToldWhatHappened(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		first := taken(t, r, agent, `{}`)
		run := r.Get(t, first.ExecutionID).Text("run_id")
		second := agent.Called(t, r.Submit(t, "demo.take", `{}`, "X-Run-ID", run), 1)
		path := "/runs/" + run
		none := []string{"Since you left"}
		wantWords(t, pageOf(t, r, path), nil, none)
		r.Clock.Advance(42 * time.Minute)
		wantWords(t, pageOf(t, r, path), nil, none) // nothing has happened
		r.Clock.Advance(10 * time.Minute)
		report(t, r, first, `{"status":"succeeded"}`)
		report(t, r, second, `{"status":"failed","error":"no luck"}`)
		r.Submit(t, "demo.take", `{}`, "X-Run-ID", run)
		part := string(r.Do(t, http.MethodGet, path, nil, "HX-Request", "true", "HX-Target", "run").Body)
		wantWords(t, part, []string{"1 succeeded"}, none)
		wantWords(t, pageOf(t, r, path), []string{
			"Since you left", "1 new step, 1 succeeded, 1 failed", path + "?node=" + second.ExecutionID + `">Show the first that failed`,
		}, nil)
		wantWords(t, pageOf(t, r, path), nil, none)
		saw := r.Do(t, http.MethodPost, path+"/seen", nil, "Sec-Fetch-Site", "same-origin")
		if saw.Status != http.StatusNoContent || r.Store.Value(t, "SELECT count(*) FROM last_seen WHERE kind = 'run'") != "1" {
			t.Errorf("%d", saw.Status)
		}
	})
}
