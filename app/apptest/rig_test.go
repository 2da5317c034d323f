package apptest

import (
	"net/http"
	"testing"
)

func TestRigRunsTheWholeServer(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, r *Rig) {
		echo := r.Agent(t, "demo", Echo("echo"))
		answer := r.Execute(t, "demo.echo", `{"input":{"n":1.0}}`)
		if answer.Status != http.StatusOK || answer.Text("result/n") != "1.0" {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		id := answer.Text("execution_id")
		if call := echo.Called(t, id, 1); call.Attempt != 1 || string(call.Input) != `{"n":1.0}` {
			t.Fatalf("the agent got %+v", call)
		}
		if status := r.Store.Status(t, id); status != "succeeded" {
			t.Fatalf("the row says %q", status)
		}
		r.Restart(t)
		if again := r.Get(t, id); again.Text("status") != "succeeded" || again.Text("result/n") != "1.0" {
			t.Fatalf("after a restart: %s", again.Body)
		}
	})
}
