package conformance

import (
	"net/http"
	"strings"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
)

// both sends one body to the synchronous and the asynchronous route.
func (t *Trial) both(target, body string, look func(name string, answer client.Answer)) {
	for _, route := range []string{"/api/v1/execute/", "/api/v1/execute/async/"} {
		answer := t.Do(http.MethodPost, route+target, body)
		look(route, answer)
	}
}

func malformedJSON(t *Trial) {
	a := t.Agent()
	for _, body := range []string{`{`, `{"input":{}`, `{"input":{}}x`, `not json`, `{"input":{"a":01}}`, "{\"input\":{\"a\":\"\t\"}}", `{'input':{}}`} {
		t.both(a.Target("echo"), body, func(_ string, answer client.Answer) {
			if answer.Status != http.StatusBadRequest {
				t.Failf("%q: expected 400, got %s", body, answer)
				return
			}
			t.Refused(answer, http.StatusBadRequest, "invalid_json")
		})
	}
	t.untouched(a.ID)
}

// untouched fails when anything was stored for a node.
func (t *Trial) untouched(node string) { t.noRows(node) }

func wrongTypes(t *Trial) {
	a := t.Agent()
	for _, body := range []string{
		``, `[]`, `null`, `5`, `"text"`, `{"input":[]}`, `{"input":"text"}`, `{"input":5}`, `{"input":true}`,
		`{"input":{},"timeout_seconds":"soon"}`, `{"input":{},"timeout_seconds":-1}`, `{"input":{},"timeout_seconds":1e300}`,
		`{"input":{},"webhook":[]}`, `{"input":{},"retry":"often"}`, `{"input":{},"retry":{"max_attempts":-1}}`,
		`{"input":{},"retry":{"max_attempts":1000000}}`, `{"input":{},"retry":{"on":["nonsense"]}}`,
	} {
		t.both(a.Target("echo"), body, func(_ string, answer client.Answer) {
			if answer.Status != http.StatusBadRequest {
				t.Failf("%q: expected 400, got %s", body, answer)
			}
			t.Has(answer, "error", "details", "code")
		})
	}
	t.untouched(a.ID)
	for _, body := range []string{`{}`, `{"input":null}`} {
		answer := t.Do(http.MethodPost, "/api/v1/execute/"+a.Target("echo"), body)
		t.Status(answer, http.StatusOK)
	}
	form := t.Do(http.MethodPost, "/api/v1/execute/"+a.Target("echo"), `{"input":{"x":1}}`, "Content-Type", "application/x-www-form-urlencoded")
	t.Status(form, http.StatusOK)
	t.Is(form, "result.x", 1)
}

func badTargets(t *Trial) {
	unknownTargets(t)
	a := t.Agent()
	for _, target := range []string{a.ID, a.ID + ".", ".echo", a.ID + ".echo.more", "%00.echo", strings.Repeat("x", 400) + ".echo"} {
		t.both(target, `{"input":{}}`, func(_ string, answer client.Answer) {
			if answer.Status != http.StatusBadRequest && answer.Status != http.StatusNotFound {
				t.Failf("target %q: expected 400 or 404, got %s", target, answer)
			}
		})
	}
	t.untouched(a.ID)
}

func bodyOverTheLimit(t *Trial) {
	a := t.Agent()
	t.tooLarge(a)
	t.untouched(a.ID)
}

func deepNesting(t *Trial) {
	a := t.Agent()
	for _, depth := range []int{20_000, 1_000_000} {
		body := `{"input":{"a":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}}`
		t.both(a.Target("echo"), body, func(_ string, answer client.Answer) {
			if answer.Status != http.StatusBadRequest && answer.Status != http.StatusUnprocessableEntity {
				t.Failf("%d levels: expected 400, got %d", depth, answer.Status)
			}
		})
	}
	t.untouched(a.ID)
}

func nulAndBrokenText(t *Trial) {
	a := t.Agent()
	for name, body := range map[string]string{
		"raw NUL":              "{\"input\":{\"a\":\"x\x00y\"}}",
		"broken UTF-8":         "{\"input\":{\"a\":\"\xff\xfe\"}}",
		"broken UTF-8 in key":  "{\"input\":{\"\xc3\x28\":1}}",
		"broken after the end": "{\"input\":{}}\x00",
	} {
		t.both(a.Target("echo"), body, func(_ string, answer client.Answer) {
			if answer.Status != http.StatusBadRequest {
				t.Failf("%s: expected 400, got %s", name, answer)
			}
		})
	}
	t.untouched(a.ID)
	for _, text := range []string{`\u0000`, `\ud800`, `\uffff`} {
		answer := t.Do(http.MethodPost, "/api/v1/execute/"+a.Target("echo"), `{"input":{"a":"x`+text+`y"}}`)
		if answer.Status != http.StatusOK && answer.Status != http.StatusBadRequest {
			t.Failf("escaped %s: expected 200 or 400, got %s", text, answer)
		}
		id := t.Start(call(a, "accept", fields{"report": fields{"status": "failed", "error": "x\x00y\uffff"}}))
		t.Is(t.End(id), "status", "failed")
	}
}

func overLongIDs(t *Trial) {
	a := t.Agent()
	long := strings.Repeat("x", 256)
	for _, header := range []string{"X-Run-ID", "X-Workflow-ID", "X-Session-ID", "X-Actor-ID", "X-Parent-Execution-ID", "Idempotency-Key"} {
		answer := t.Do(http.MethodPost, "/api/v1/execute/async/"+a.Target("echo"), `{"input":{}}`, header, long)
		if answer.Status != http.StatusBadRequest {
			t.Failf("%s of 256 bytes: expected 400, got %s", header, answer)
		}
		t.Has(answer, "error", "details", "code")
	}
	t.untouched(a.ID)
	for _, id := range []string{long, strings.Repeat("y", 3000), "exec_%00", "..%2f..", "exec_%ff"} {
		answer := t.Do(http.MethodGet, "/api/v1/executions/"+id, nil)
		if answer.Status != http.StatusNotFound && answer.Status != http.StatusBadRequest {
			t.Failf("execution %.20q: expected 404 or 400, got %s", id, answer)
		}
	}
	c := call(a, "echo", fields{})
	c.Headers = []string{"X-Run-ID", strings.Repeat("r", 255)}
	t.Status(t.Execute(c), http.StatusOK)
}

func badFilters(t *Trial) {
	for _, filters := range [][]string{
		{"status", "nonsense"},
		{"status", "failed,nonsense"},
		{"cursor", "nonsense"},
		{"cursor", "ZXhlY194"},
		{"limit", "many"},
		{"limit", "-1"},
		{"since", "yesterday"},
		{"cursor", "%00"},
	} {
		answer, err := t.api.List(t.ctx, filters...)
		t.Must(err)
		if answer.Status != http.StatusBadRequest {
			t.Failf("%v: expected 400, got %s", filters, answer)
		}
		t.Has(answer, "error", "details", "code")
	}
	wait := t.Do(http.MethodGet, "/api/v1/executions/exec_x?wait=soon", nil)
	t.True(wait.Status == http.StatusBadRequest || wait.Status == http.StatusNotFound, "400 or 404 for a bad wait, got %s", wait)
}

func badBatches(t *Trial) {
	for _, body := range []string{`{`, `[]`, `{"execution_ids":"exec_1"}`, `{"execution_ids":[1]}`, ``, `{"execution_ids":{}}`} {
		answer := t.Do(http.MethodPost, "/api/v1/executions/batch-status", body)
		if answer.Status != http.StatusBadRequest {
			t.Failf("%q: expected 400, got %s", body, answer)
		}
		t.Has(answer, "error", "details", "code")
	}
}

func badReports(t *Trial) {
	a := t.Agent()
	id := t.Start(call(a, "later", fields{}))
	t.Until(id, "running")
	for _, body := range []string{`{`, `{}`, `{"status":""}`, `{"status":"nonsense"}`, `{"status":5}`, `[]`} {
		answer := t.Do(http.MethodPost, "/api/v1/executions/"+id+"/status", body)
		if answer.Status != http.StatusBadRequest {
			t.Failf("%q: expected 400, got %s", body, answer)
		}
	}
	t.Status(t.Report("exec_unknown", fields{"status": "succeeded"}), http.StatusNotFound)
	t.Is(t.Get(id), "status", "running")
	t.Status(t.Report(id, fields{"status": "succeeded", "result": "first", "reasoner": "later"}), http.StatusOK)
	same := t.Report(id, fields{"status": "succeeded", "result": "second"})
	t.Status(same, http.StatusOK)
	contradicting := t.Report(id, fields{"status": "failed", "error": "too late"})
	t.Status(contradicting, http.StatusOK) // without a token, so that published clients stop repeating
	end := t.Get(id)
	t.Is(end, "status", "succeeded")
	t.Is(end, "result", "first")
	t.oneTerminalEvent(id)
	t.untilEvent(id, func(e client.Event) bool { return strings.Contains(e.Type, "late") }, "the late reports")
}

func badCancels(t *Trial) {
	unknown, err := t.api.Cancel(t.ctx, "exec_unknown", "")
	t.Must(err)
	t.Status(unknown, http.StatusNotFound)
	a := t.Agent()
	id := t.Execute(call(a, "echo", fields{})).Text("execution_id")
	ended, err := t.api.Cancel(t.ctx, id, "")
	t.Must(err)
	t.Status(ended, http.StatusConflict)
	t.Is(ended, "error", "invalid_state")
	t.Has(ended, "message", "details", "code")
	broken := t.Do(http.MethodPost, "/api/v1/executions/"+id+"/cancel", `{`)
	t.True(broken.Status == http.StatusBadRequest || broken.Status == http.StatusConflict, "400 or 409 for a broken body, got %s", broken)
}

func unknownRoutes(t *Trial) {
	answer := t.Do(http.MethodGet, "/api/v1/no/such/route", nil)
	t.Status(answer, http.StatusNotFound)
	t.Is(answer, "error", "endpoint_not_found")
	t.Is(answer, "message", "GET /api/v1/no/such/route does not exist")
	missing := t.Do(http.MethodGet, "/api/v1/executions/exec_unknown", nil)
	t.Status(missing, http.StatusNotFound)
	t.Is(missing, "error", "execution not found")
	t.Has(missing, "details", "code", "message")
	inURL := t.Do(http.MethodGet, "/api/v1/executions?api_key=x", nil)
	t.Status(inURL, http.StatusBadRequest)
	t.Is(inURL, "code", "credential_in_url")
}

func foreignOriginIsRefused(t *Trial) {
	a := t.Agent()
	path, body := "/api/v1/execute/async/"+a.Target("echo"), `{"input":{}}`
	for _, headers := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		answer := t.Do(http.MethodPost, path, body, headers...)
		t.True(answer.Status == http.StatusForbidden, "403 with %v, got %s", headers, answer)
	}
	t.untouched(a.ID)
}
