package webhook

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/agentfield/agentfield/models"
)

var update = flag.Bool("update", false, "write the golden files")

// ended is an execution as the golden files know it.
func endedAs(status models.Status) models.Execution {
	return models.Execution{
		ID: "exec_01", RunID: "run_01", NodeID: "research-agent", Function: "deep_analysis", FunctionKind: "reasoner", Status: status,
		Attempt: 1, MaxAttempts: 1, CreatedAt: 1736937000000, StartedAt: new(int64(1736937000123)), FinishedAt: new(int64(1736937045123)),
	}
}

func TestBodiesMatchTheirGoldenFiles(t *testing.T) {
	succeeded := endedAs(models.Succeeded)
	succeeded.WorkflowID, succeeded.SessionID, succeeded.ActorID = new("wf <customer> 7"), new("session_1"), new("actor_1")
	succeeded.Context = new(`{"tier":  "gold"}`)
	succeeded.Attempt = 3
	failed := endedAs(models.Failed)
	failed.ErrorMessage, failed.ErrorCategory, failed.StatusReason = new("LLM API rate limit exceeded \"429\"\n"), new("agent_error"), new("agent_error")
	timeout := endedAs(models.Timeout)
	timeout.StatusReason = new("deadline_exceeded")
	cancelled := endedAs(models.Cancelled)
	cancelled.StartedAt = nil
	for name, c := range map[string]struct {
		execution models.Execution
		payload   string
	}{
		"succeeded": {succeeded, "{ \"analysis\" : \"<b>Quantum</b> é\",\n \"n\": 1.0e3, \"big\": 12345678901234567890 }"},
		"failed":    {failed, `{"provider":"x"}`},
		"timeout":   {timeout, ""},
		"cancelled": {cancelled, ""},
	} {
		t.Run(name, func(t *testing.T) {
			body := buildBody(EventFor(c.execution.Status), &c.execution, []byte(c.payload))
			if !json.Valid(body) {
				t.Errorf("not JSON: %s", body)
			}
			if !bytes.Contains(body, []byte(c.payload)) {
				t.Errorf("the payload was changed: %s", body)
			}
			golden(t, name+".json", body)
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

func TestSuccessWithoutAStoredResultIsNull(t *testing.T) {
	e := endedAs(models.Succeeded)
	var body map[string]any
	if err := json.Unmarshal(buildBody(EventFor(e.Status), &e, nil), &body); err != nil {
		t.Fatal(err)
	}
	if result, there := body["result"]; !there || result != nil {
		t.Errorf("result %v, %v", result, there)
	}
}
