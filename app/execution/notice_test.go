package execution_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// told is an agent that accepts calls and answers notices with the given statuses, the last one for ever.
func told(notices chan<- *http.Request, statuses ...int) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/_internal/") {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		body, _ := io.ReadAll(r.Body)
		r.Header.Set("Body", string(body))
		status := statuses[min(int(n.Add(1)), len(statuses))-1]
		notices <- r
		w.WriteHeader(status)
	}
}

func TestTheAgentIsToldOfACancel(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		notices := make(chan *http.Request, 10)
		r := newRig(t, db, told(notices, 503, 200))
		id := r.submit(t, call(`{}`))
		dbtest.Eventually(t, "the node has it", func() bool { return len(r.kinds(t, id)) == 3 })
		done, err := r.Cancel(t.Context(), id, "not needed")
		if err != nil || done.Previous != models.Running || done.Row.Status != models.Cancelled {
			t.Fatalf("%+v, %v", done, err)
		}
		for range 2 { // the first answer is 503: told again
			n := dbtest.Soon(t, notices)
			if n.URL.Path != "/_internal/executions/"+id+"/cancel" || n.Header.Get("X-Execution-ID") != id {
				t.Errorf("%s, %v", n.URL, n.Header)
			}
			var body map[string]string
			if err := json.Unmarshal([]byte(n.Header.Get("Body")), &body); err != nil || body["execution_id"] != id || body["reason"] != "not needed" {
				t.Errorf("%v, %v", body, err)
			}
		}
		dbtest.Eventually(t, "it is on record", func() bool { return len(r.kinds(t, id)) == 5 })
		wantKinds(t, r, id, "[queued running released cancelled notice]")
		if n := dbtest.Count(t, db, "SELECT count(*) FROM notices WHERE status = 'delivered' AND attempt = 2"); n != 1 {
			t.Error("the notice is not delivered at the second attempt")
		}
		if len(notices) != 0 {
			t.Error("the agent was told again")
		}
		var state *execution.StateError
		if _, err := r.Cancel(t.Context(), id, ""); !errors.As(err, &state) || state.Status != models.Cancelled {
			t.Errorf("a second cancel: %v", err)
		}
	})
}

func TestANoticeIsGivenUpAndThatIsOnRecord(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		notices := make(chan *http.Request, 10)
		r := newRig(t, db, told(notices, 500))
		id := r.submit(t, call(`{}`))
		dbtest.Eventually(t, "the node has it", func() bool { return len(r.kinds(t, id)) == 3 })
		if _, err := r.Cancel(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
		for attempt := 1; attempt <= 4; attempt++ {
			dbtest.Soon(t, notices)
			dbtest.Eventually(t, "it is on record", func() bool {
				return dbtest.Count(t, db, "SELECT count(*) FROM notices WHERE attempt = $1 AND status <> 'running'", attempt) == 1
			})
			c.advance(time.Minute)
			r.Wake()
		}
		dbtest.Eventually(t, "it is given up", func() bool { return dbtest.Count(t, db, "SELECT count(*) FROM notices WHERE status = 'failed'") == 1 })
		history, err := r.History(t.Context(), id, 0, 10)
		if err != nil || !strings.Contains(*history[len(history)-1].Data, "not delivered") {
			t.Errorf("%v, %v", history, err)
		}
	})
}

func TestWhatNobodyHasIsCancelledWithoutAWord(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		pending := r.submit(t, call(`{}`))
		r.nodes.set("http://127.0.0.1:1")
		queued := r.submit(t, call(`{}`))
		for id, was := range map[string]models.Status{pending: models.Pending, queued: models.Queued} {
			done, err := r.Cancel(t.Context(), id, "")
			if err != nil || done.Previous != was {
				t.Errorf("%+v, %v", done, err)
			}
		}
		if n := dbtest.Count(t, db, "SELECT count(*) FROM notices"); n != 0 {
			t.Errorf("%d notices", n)
		}
		r.take(t, 0)
		if _, err := r.Cancel(t.Context(), "exec_none", ""); !errors.Is(err, execution.ErrNotFound) {
			t.Error(err)
		}
	})
}

// Races of completion, cancel, report and limit: one end each, one event of it, one webhook.
func TestOneEndWinsEveryRace(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		const wave = 250
		r := build(t, db, settings{still: true, options: func(o *execution.Options) { o.Delivered = func() {} }})
		r.nodes.set("http://127.0.0.1:1")
		var won [4]atomic.Int64
		for range races / wave {
			var wg sync.WaitGroup
			for range wave {
				wg.Go(func() {
					sub := call(`{}`)
					sub.Webhook = &models.WebhookRegistration{ExecutionID: sub.ID, URL: "http://example.com/"}
					if _, err := r.Submit(t.Context(), sub); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for left := wave; left > 0; {
				taken, err := r.Take(t.Context(), left)
				if err != nil {
					t.Fatal(err)
				}
				left -= len(taken)
				for _, w := range taken {
					wg.Go(func() {
						if err := r.End(w, execution.Answers, `"answer"`); err != nil {
							t.Error(err)
						}
					})
					wg.Go(func() {
						if _, err := r.Cancel(t.Context(), w.ID(), "race"); err == nil {
							won[0].Add(1)
						} else if _, ok := errors.AsType[*execution.StateError](err); !ok {
							t.Error(err)
						}
					})
					wg.Go(func() {
						if _, err := r.Report(t.Context(), w.ID(), says(models.Failed, "")); err != nil {
							t.Error(err)
						}
					})
					wg.Go(func() {
						if err := r.TimeOut(t.Context(), w.ID()); err != nil {
							t.Error(err)
						}
					})
				}
			}
			wg.Wait()
		}
		if n := dbtest.Count(t, db, "SELECT count(*) FROM executions WHERE finished_at IS NULL"); n != 0 {
			t.Errorf("%d have no end", n)
		}
		if n := dbtest.Count(t, db, "SELECT count(*) FROM events WHERE kind IN ('execution.succeeded', 'execution.failed', 'execution.timeout', 'execution.cancelled')"); n != races {
			t.Errorf("%d ends in the history of %d", n, races)
		}
		if n := dbtest.Count(t, db, "SELECT count(*) FROM webhook_deliveries d JOIN executions e ON e.id = d.execution_id AND d.event = CASE WHEN e.status = 'succeeded' THEN 'execution.completed' ELSE 'execution.failed' END"); n != races {
			t.Errorf("%d webhooks that fit", n)
		}
		if n := dbtest.Count(t, db, "SELECT count(*) FROM executions WHERE status = 'cancelled'"); n != int(won[0].Load()) {
			t.Errorf("%d were cancelled, %d were told so", n, won[0].Load())
		}
		audit(t, r)
	})
}
