package client_test

import (
	"testing"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
)

func TestValueWalksObjectsAndLists(t *testing.T) {
	a := client.Answer{Body: []byte(`{"status":"failed","list":[{"n":1},{"n":null}],"error":""}`)}
	for path, want := range map[string]struct {
		v  any
		ok bool
	}{
		"status": {"failed", true}, "list.0.n": {1.0, true}, "list.1.n": {nil, true}, "list.2.n": {nil, false}, "list.x": {nil, false},
		"status.x": {nil, false}, "none": {nil, false}, "error": {"", true},
	} {
		if v, ok := a.Value(path); v != want.v || ok != want.ok {
			t.Errorf("%s: got %v %v, want %v %v", path, v, ok, want.v, want.ok)
		}
	}
	if _, ok := (client.Answer{Body: []byte("<html>")}).Value(""); ok {
		t.Error("a body that is not JSON has no values")
	}
}

func TestOnlyStatusEventsAreTransitions(t *testing.T) {
	for name, want := range map[string]string{
		"execution.succeeded": "succeeded", "execution.queued": "queued", "execution.late_report": "", "webhook.attempted": "", "": "",
	} {
		if got := (client.Event{Type: name}).Status(); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
