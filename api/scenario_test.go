package api_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

// each runs fn against a whole server on every database; each answer is held to openapi.yaml.
func each(t *testing.T, fn func(t *testing.T, r *apptest.Rig), options ...apptest.Option) {
	t.Helper()
	t.Parallel()
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		r.Seen = loadContract(t).holds
		fn(t, r)
	}, options...)
}

// scenario is one request with what must and must not be in its answer, and what it leaves behind.
type scenario struct {
	name   string
	ask    string // method and path
	body   any
	header []string // pairs
	status int
	must   map[string]string // path → value as text; "^…" is a pattern, "" means there but empty or null
	never  []string          // keys that the body must not have
	says   string            // somewhere in the body
	events []string          // of the execution that the answer names; nil: not looked at
	row    string            // its status in the database; "none": the request left nothing at all
}

func (s scenario) run(t *testing.T, r *apptest.Rig) apptest.Answer {
	t.Helper()
	before := ""
	if s.row == "none" {
		before = r.Store.Rows(t)
	}
	method, path, _ := strings.Cut(s.ask, " ")
	answer := r.Do(t, method, path, s.body, s.header...)
	if answer.Status != s.status {
		t.Fatalf("%s answered %d, not %d: %s", s.ask, answer.Status, s.status, answer.Body)
	}
	hasAll(t, answer, s.must)
	for _, key := range s.never {
		if answer.Has(key) {
			t.Errorf("the answer has %q: %s", key, answer.Body)
		}
	}
	if !strings.Contains(string(answer.Body), s.says) {
		t.Errorf("the answer does not say %q: %s", s.says, answer.Body)
	}
	s.left(t, r, answer, before)
	return answer
}

func (s scenario) left(t *testing.T, r *apptest.Rig, answer apptest.Answer, before string) {
	t.Helper()
	id := answer.Text("execution_id")
	switch {
	case s.row == "none":
		if after := r.Store.Rows(t); after != before {
			t.Errorf("a refused request left rows behind:\nbefore %s\nafter  %s", before, after)
		}
	case s.row != "":
		if got := r.Store.Status(t, id); got != s.row {
			t.Errorf("the row of %s says %q, not %q", id, got, s.row)
		}
	}
	if s.events != nil {
		if got := r.Events(t, id); !slices.Equal(got, s.events) {
			t.Errorf("events of %s: %v, not %v", id, got, s.events)
		}
	}
}

func hasAll(t *testing.T, answer apptest.Answer, must map[string]string) {
	t.Helper()
	for path, want := range must {
		got := answer.Text(path)
		if strings.HasPrefix(want, "^") {
			if !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("%s is %q, which does not match %q: %s", path, got, want, answer.Body)
			}
			continue
		}
		if got != want {
			t.Errorf("%s is %q, not %q: %s", path, got, want, answer.Body)
		}
	}
}

func runAll(t *testing.T, r *apptest.Rig, scenarios []scenario) {
	t.Helper()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { s.run(t, r) })
	}
}

const (
	execID  = `^exec_[0-9a-z]{26}$`
	runID   = `^run_[0-9a-z]{26}$`
	instant = `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`
	some    = `^.+$`
)

// strict is a function with a schema that echoes its input.
func strict() apptest.Function {
	f := apptest.Echo("strict")
	f.Schema = `{"type":"object","required":["message"],"properties":{"message":{"type":"string"},"count":{"type":"integer"}}}`
	return f
}

// greet greets by name.
func greet() apptest.Function {
	return apptest.Function{Name: "greet", Serve: func(w http.ResponseWriter, r *http.Request, call apptest.Call) {
		name := apptest.Answer{Body: call.Input}.Text("name")
		apptest.JSON("", http.StatusOK, `{"greeting":"Hello, `+name+`!"}`).Serve(w, r, call)
	}}
}
