package webhook

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

func (r *rig) subscribe(url string, events ...string) (*models.WebhookEndpoint, string) {
	r.t.Helper()
	e, secret, err := r.CreateEndpoint(r.t.Context(), olga, Subscription{Name: "billing", URL: url, Events: events, Headers: map[string]string{"X-Token": "t0ken"}})
	if err != nil {
		r.t.Fatal(err)
	}
	return e, secret
}

// happened stores an execution and announces it as its end does, in one transaction.
func (r *rig) happened(id string, status models.Status) {
	r.t.Helper()
	e := endedAs(status)
	e.ID, e.Mode = id, "async"
	insert(r.t, r.DB, &e)
	insert(r.t, r.DB, &models.ExecutionPayload{ExecutionID: id, Kind: models.PayloadResult, Body: []byte(`{"n": 1.0}`)})
	err := r.DB.Tx(r.t.Context(), func(tx *database.Tx) error {
		return r.Announce(r.t.Context(), tx, []*models.Execution{&e}, r.DB.NowMs())
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) toEndpoint(e *models.WebhookEndpoint) []*models.WebhookDelivery {
	r.t.Helper()
	page, err := r.List(r.t.Context(), Filter{Endpoint: e.ID})
	if err != nil {
		r.t.Fatal(err)
	}
	return page.Rows
}

func (r *rig) entries(action string) int {
	r.t.Helper()
	var n int
	if err := r.DB.QueryRow(r.t.Context(), "SELECT count(*) FROM audit_log WHERE action = $1 AND actor = 'user:olga'", []any{action}, &n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

func TestEndpointsAreToldOfWhatTheySubscribedTo(t *testing.T) {
	receiver := newReceiver(t, answer(200, ""))
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		r.start()
		all, secret := r.subscribe(receiver.URL+"/all", EventCompleted, EventFailed)
		exact, _ := r.subscribe(receiver.URL+"/exact", EventCancelled, EventWaiting)
		off, _ := r.subscribe(receiver.URL+"/off", EventCompleted)
		no := false
		if _, err := r.ChangeEndpoint(t.Context(), olga, off.ID, EndpointChange{Enabled: &no}); err != nil {
			t.Fatal(err)
		}
		r.happened("exec_1", models.Succeeded)
		if got := r.next(); got.Status != Delivered {
			t.Fatalf("%+v", got)
		}
		got := receiver.next(t)
		if documented, standard := verified(got.header, got.body, secret); !documented || !standard {
			t.Errorf("signatures %v, %v", documented, standard)
		}
		if got.header.Get("X-Token") != "t0ken" || !strings.Contains(string(got.body), `"event":"execution.completed"`) || !strings.Contains(string(got.body), `"result":{"n": 1.0}`) {
			t.Errorf("%v %s", got.header, got.body)
		}
		r.happened("exec_2", models.Cancelled)
		r.next()
		r.next()
		events := map[string]string{}
		for range 2 {
			var body struct{ Event, Status string }
			if err := json.Unmarshal(receiver.next(t).body, &body); err != nil {
				t.Fatal(err)
			}
			events[body.Event] = body.Status
		}
		if len(events) != 2 || events[EventFailed] != "cancelled" || events[EventCancelled] != "cancelled" {
			t.Errorf("a cancelled execution is told as %v", events)
		}
		if got := r.toEndpoint(all); len(got) != 2 || got[0].Event != EventFailed {
			t.Errorf("%d for all", len(got))
		}
		if got := r.toEndpoint(exact); len(got) != 1 || got[0].ExecutionID != "exec_2" {
			t.Errorf("%d for what is exact", len(got))
		}
		if got := r.toEndpoint(off); len(got) != 0 {
			t.Errorf("%d for what is disabled", len(got))
		}
		if seen, err := r.Attempts(t.Context(), "exec_1", "exec_2"); err != nil || len(seen) != 0 {
			t.Errorf("callers see %d attempts at endpoints, %v", len(seen), err)
		}
		if health, err := r.HealthOf(t.Context(), Filter{Endpoint: all.ID}); err != nil || health.Of != 2 || health.Rate() != 100 || health.LastDelivered == nil {
			t.Errorf("%+v, %v", health, err)
		}
	})
}

// TestWhatWaitedIsToldAsItWas: the body was kept, so that every attempt says the same although the execution has gone on.
func TestWhatWaitedIsToldAsItWas(t *testing.T) {
	receiver := newReceiver(t, answer(503, ""), answer(200, ""))
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		receiver.seen.Store(0)
		r.start()
		r.subscribe(receiver.URL, EventWaiting)
		r.happened("exec_1", models.Waiting)
		r.next()
		first := receiver.next(t)
		if _, err := r.Deliveries(t.Context(), "exec_1"); err != nil {
			t.Fatal(err)
		}
		err := r.DB.Tx(t.Context(), func(tx *database.Tx) error {
			_, err := tx.Exec(t.Context(), "UPDATE executions SET status = 'succeeded' WHERE id = 'exec_1'")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		r.clock.Advance(time.Minute)
		r.Wake()
		r.next()
		second := receiver.next(t)
		if string(first.body) != string(second.body) || !strings.Contains(string(second.body), `"status":"waiting"`) {
			t.Errorf("%s\n%s", first.body, second.body)
		}
		if first.header.Get(headerID) == "" || first.header.Get(headerID) != second.header.Get(headerID) {
			t.Error("the id has changed")
		}
	})
}

func TestATestSaysThatItIsOne(t *testing.T) {
	receiver := newReceiver(t, answer(500, "no"))
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		r.start()
		e, secret := r.subscribe(receiver.URL, EventCompleted)
		id, err := r.TestEndpoint(t.Context(), olga, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.next(); got.DeliveryID != id || got.Status != Failed || got.Attempt != 1 {
			t.Errorf("a test is tried once: %+v", got)
		}
		got := receiver.next(t)
		var body map[string]any
		if err := json.Unmarshal(got.body, &body); err != nil || body["event"] != EventTest || body["test"] != true || body["endpoint_id"] != e.ID {
			t.Errorf("%s, %v", got.body, err)
		}
		if documented, standard := verified(got.header, got.body, secret); !documented || !standard {
			t.Errorf("signatures %v, %v", documented, standard)
		}
		d := r.mustFind(id)
		if attempts, err := r.AttemptsOf(t.Context(), d); err != nil || len(attempts) != 1 || *attempts[0].HTTPStatus != http.StatusInternalServerError {
			t.Errorf("%d attempts, %v", len(attempts), err)
		}
		if n := r.entries("webhook_endpoint.tested"); n != 1 {
			t.Errorf("%d entries", n)
		}
	})
}

func TestEndpointsAreChangedAndDeleted(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		e, secret := r.subscribe("http://127.0.0.1:1/old", EventFailed)
		if !strings.HasPrefix(secret, secretPrefix) || len(secret) < 40 {
			t.Errorf("the secret is %d bytes long", len(secret))
		}
		if stored, err := r.Endpoint(t.Context(), e.ID); err != nil || strings.Contains(string(stored.Secret), secret) || strings.Contains(*stored.Headers, "t0ken") {
			t.Errorf("a secret is stored in the open, %v", err)
		}
		r.happened("exec_1", models.Failed)
		address, name := "http://127.0.0.1:1/new", "invoices"
		changed, err := r.ChangeEndpoint(t.Context(), olga, e.ID, EndpointChange{Name: &name, URL: &address})
		if err != nil || changed.Name != name || changed.Events != EventFailed || *changed.Headers != *e.Headers {
			t.Errorf("%+v, %v", changed, err)
		}
		if d := r.toEndpoint(e)[0]; d.URL != address || d.Status != Queued {
			t.Errorf("what waits goes to %s", d.URL)
		}
		for _, wrong := range []Subscription{
			{Name: "x", URL: "ftp://x", Events: []string{EventFailed}},
			{Name: "x", URL: address},
			{Name: "x", URL: address, Events: []string{"execution.exploded"}},
			{Name: "  ", URL: address, Events: []string{EventFailed}},
			{Name: "x", URL: address, Events: []string{EventFailed}, Secret: "short"},
			{Name: "x", URL: "http://169.254.169.254/", Events: []string{EventFailed}},
			{Name: "x", URL: address, Events: []string{EventFailed}, Headers: map[string]string{"Webhook-Id": "x"}},
		} {
			if _, _, err := r.CreateEndpoint(t.Context(), olga, wrong); !errors.Is(err, ErrInvalid) {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
		if err := r.DeleteEndpoint(t.Context(), olga, e.ID); err != nil {
			t.Fatal(err)
		}
		if d := r.toEndpoint(e)[0]; d.Status != Failed || d.LastError == nil {
			t.Errorf("what waited for a deleted endpoint is %s", d.Status)
		}
		for _, err := range []error{
			r.DeleteEndpoint(t.Context(), olga, e.ID),
			func() error { _, err := r.TestEndpoint(t.Context(), olga, e.ID); return err }(),
			func() error { _, err := r.Endpoint(t.Context(), e.ID); return err }(),
		} {
			if !errors.Is(err, ErrNoEndpoint) {
				t.Errorf("what is deleted is still there: %v", err)
			}
		}
		for action, want := range map[string]int{"webhook_endpoint.created": 1, "webhook_endpoint.changed": 1, "webhook_endpoint.deleted": 1} {
			if n := r.entries(action); n != want {
				t.Errorf("%d entries %s", n, action)
			}
		}
	})
}

// TestWhatIsRolledBackIsToldNobody: the delivery is written with the event, or neither is.
func TestWhatIsRolledBackIsToldNobody(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		e, _ := r.subscribe("http://127.0.0.1:1/", EventCompleted, EventRequested)
		row := endedAs(models.Succeeded)
		back := errors.New("rolled back")
		err := r.DB.Tx(t.Context(), func(tx *database.Tx) error {
			return errors.Join(r.Announce(t.Context(), tx, []*models.Execution{&row}, 1), back)
		})
		if !errors.Is(err, back) || len(r.toEndpoint(e)) != 0 {
			t.Errorf("%d deliveries, %v", len(r.toEndpoint(e)), err)
		}
		err = r.DB.Tx(t.Context(), func(tx *database.Tx) error {
			body := func() ([]byte, error) { return []byte(`{"event":"approval.requested"}`), nil }
			for range 2 { // a repeated transaction announces once
				if err := r.AnnounceApproval(t.Context(), tx, EventRequested, &models.Approval{ID: "apr_1", ExecutionID: "exec_1"}, body); err != nil {
					return err
				}
			}
			return nil
		})
		if got := r.toEndpoint(e); err != nil || len(got) != 1 || *got[0].Body != `{"event":"approval.requested"}` {
			t.Errorf("%d deliveries, %v", len(got), err)
		}
	})
}
