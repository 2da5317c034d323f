package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
	"github.com/agentfield/agentfield/sdk/go/agent"
)

const secret = "a-secret-of-the-receiver"

// asker is an agent of the SDK whose function pauses for an hour at most and gives the decision.
func asker(t *testing.T, r *apptest.Rig) {
	t.Helper()
	a, err := agent.New(agent.Config{NodeID: "claims", ServerURL: r.URL, Logger: slog.New(slog.DiscardHandler), StopTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	a.Reasoner("review", func(ctx context.Context, input json.RawMessage) (any, error) {
		return agent.Pause(ctx, agent.PauseRequest{Title: "Pay claim", Risk: "low", Payload: input, ExpiresIn: time.Hour})
	})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, listener) }()
	t.Cleanup(func() {
		leave()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-a.Ready():
	case <-time.After(apptest.Patience):
		t.Fatal("the agent did not register")
	}
}

// told is the n-th notification, after a look at its signature.
func told(t *testing.T, receiver *apptest.Receiver, n int) map[string]any {
	t.Helper()
	got := receiver.Got(t, n)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(got.Input)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); got.Header.Get("X-AgentField-Signature") != want {
		t.Errorf("notification %d is signed %q, want %q", n, got.Header.Get("X-AgentField-Signature"), want)
	}
	var body map[string]any
	if err := json.Unmarshal(got.Input, &body); err != nil {
		t.Fatalf("%s: %v", got.Input, err)
	}
	return body
}

func TestReviewersAreToldAndTheAgentGoesOn(t *testing.T) {
	receiver := apptest.NewReceiver(t)
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		asker(t, r)
		before := receiver.Count()
		answer := r.Execute(t, "claims.review", `{"input":{"amount":640}}`)
		if answer.Status != http.StatusOK || answer.Text("status") != "waiting" {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		id, requestID := answer.Text("execution_id"), answer.Text("waiting_for/approval_request_id")
		requested := told(t, receiver, before+1)
		for key, want := range map[string]any{
			"event": "approval.requested", "execution_id": id, "approval_request_id": requestID, "target": "claims.review", "title": "Pay claim", "risk": "low",
			"round": 1.0, "url": r.URL + "/approvals/" + requested["approval_id"].(string),
		} {
			if requested[key] != want {
				t.Errorf("%s is %v, want %v", key, requested[key], want)
			}
		}
		done := r.Do(t, http.MethodPost, "/api/v1/webhooks/approval",
			map[string]string{"approval_request_id": requestID, "decision": "approved", "feedback": "fine"})
		if done.Status != http.StatusOK {
			t.Fatalf("%d %s", done.Status, done.Body)
		}
		if decided := told(t, receiver, before+2); decided["event"] != "approval.decided" || decided["decision"] != "approved" || decided["feedback"] != "fine" {
			t.Errorf("told %v", decided)
		}
		if end := r.Ended(t, id); end.Text("status") != "succeeded" || end.Text("result/status") != "approved" || end.Text("result/feedback") != "fine" {
			t.Errorf("%s", end.Body)
		}

		late := r.Execute(t, "claims.review", `{"input":{"amount":1}}`)
		told(t, receiver, before+3)
		r.Clock.Advance(2 * time.Hour)
		if expired := told(t, receiver, before+4); expired["event"] != "approval.expired" || expired["execution_id"] != late.Text("execution_id") {
			t.Errorf("told %v", expired)
		}
		if end := r.Ended(t, late.Text("execution_id")); end.Text("status") != "succeeded" || end.Text("result/status") != "expired" {
			t.Errorf("%s", end.Body)
		}
	}, func(c *config.Config) { c.NotifyURL, c.NotifySecret = receiver.URL, secret })
}
