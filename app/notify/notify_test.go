package notify

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

func TestMain(m *testing.M) {
	dbtest.Main(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),    // the server of the whole app: one per process,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), // and one that notices its end within ten seconds
	)
}

// taken is a request as the receiver got it.
type taken struct {
	header http.Header
	body   string
}

// rig is a service on an empty database, with a clock and a receiver of its own.
type rig struct {
	*Service
	t        *testing.T
	clock    *dbtest.Clock
	log      *strings.Builder
	arrived  chan taken
	answer   func(w http.ResponseWriter, n int)
	receiver *httptest.Server
}

func eachRig(t *testing.T, change func(o *Options), fn func(t *testing.T, r *rig)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, config database.Config) {
		clock := dbtest.NewClock(time.Date(2025, 1, 15, 10, 31, 0, 0, time.UTC))
		config.Clock = clock.Now
		fn(t, newRig(t, dbtest.Open(t, config), clock, change))
	})
}

// newRig joins as a replica of its own. It is not started.
func newRig(t *testing.T, db *database.DB, clock *dbtest.Clock, change func(o *Options)) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock, log: &strings.Builder{}, arrived: make(chan taken, 100), answer: func(http.ResponseWriter, int) {}}
	n := 0
	r.receiver = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		n++
		r.answer(w, n)
		r.arrived <- taken{request.Header.Clone(), string(body)}
	}))
	t.Cleanup(r.receiver.Close)
	log := slog.New(slog.NewTextHandler(r.log, nil))
	replica, err := lease.Join(t.Context(), db, 1000*time.Hour, log)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		DB: db, Replica: replica, Log: log, Client: &http.Client{Transport: &http.Transport{}, Timeout: dbtest.Patience},
		Sign: func(h http.Header, id string, at time.Time, body, secret []byte) {
			h.Set("X-Test-Signature", strings.Join([]string{id, at.UTC().Format(time.RFC3339), string(body), string(secret)}, "|"))
		},
		Explain: func(error) string { return "nobody listens" },
		URL:     r.receiver.URL + "/services/canary-path", Secret: "canary-secret", Format: "json",
		Events: []string{"approval.requested", "approval.decided", "approval.expired"}, Backoff: lease.Backoff{First: 5 * time.Second, Max: 5 * time.Minute},
		PublicURL: func() string { return "https://agents.example.org" },
	}
	if change != nil {
		change(&o)
	}
	r.Service = New(o)
	return r
}

func (r *rig) start() {
	r.t.Helper()
	r.Start()
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
		defer cancel()
		r.Stop(ctx)
	})
}

func (r *rig) announce(kind string, a *models.Approval) {
	r.t.Helper()
	if err := r.DB.Tx(r.t.Context(), func(tx *database.Tx) error { return r.Announce(r.t.Context(), tx, kind, a) }); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) next() taken {
	r.t.Helper()
	select {
	case got := <-r.arrived:
		return got
	case <-time.After(dbtest.Patience):
		r.t.Fatal("nothing arrived")
		panic("unreachable")
	}
}

// await waits until the only notification of a request has the status and so many attempts.
func (r *rig) await(id, status string, attempt int) models.Notification {
	r.t.Helper()
	limit, again := time.After(dbtest.Patience), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for {
		list, err := r.Of(r.t.Context(), id)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(list) == 1 && list[0].Status == status && list[0].Attempt == attempt {
			return list[0]
		}
		select {
		case <-again.C:
		case <-limit:
			r.t.Fatalf("waited in vain for %s after %d attempts: %+v", status, attempt, list)
		}
	}
}

func pending() *models.Approval {
	return &models.Approval{
		ID: "appr_1", RequestID: "claim-1", ExecutionID: "exec_1", RunID: "run_1", NodeID: "claims", Function: "review", Round: 2, Status: models.ApprovalPending,
		Title: "Pay <claim> & go", Risk: "high", URL: "https://elsewhere.example/1", ExpiresAt: time.Date(2025, 1, 15, 12, 0, 0, 0, time.UTC).UnixMilli(),
	}
}

func decided(status models.ApprovalStatus, feedback string) *models.Approval {
	a := pending()
	a.Status, a.Decision, a.DecidedBy, a.Feedback = status, new(string(status)), new("dana"), new(feedback)
	return a
}

func TestWhatHappensIsToldSigned(t *testing.T) {
	eachRig(t, nil, func(t *testing.T, r *rig) {
		r.start()
		r.announce("approval.requested", pending())
		got := r.next()
		want := `{"event":"approval.requested","approval_id":"appr_1","approval_request_id":"claim-1","execution_id":"exec_1","run_id":"run_1",` +
			`"target":"claims.review","title":"Pay <claim> & go","risk":"high","round":2,"expires_at":"2025-01-15T12:00:00.000Z",` +
			`"url":"https://agents.example.org/approvals/appr_1","timestamp":"2025-01-15T10:31:00.000Z"}`
		if got.body != want {
			t.Errorf("body:\n got %s\nwant %s", got.body, want)
		}
		row := r.await("appr_1", Delivered, 1)
		if signature := got.header.Get("X-Test-Signature"); signature != row.ID+"|2025-01-15T10:31:00Z|"+want+"|canary-secret" {
			t.Errorf("signed %s", signature)
		}
		if got.header.Get("Content-Type") != "application/json" {
			t.Errorf("header %v", got.header)
		}
		if row.LastStatus == nil || *row.LastStatus != 200 || row.LastError != nil || row.DeliveredAt == nil || row.Event != "approval.requested" || row.ExecutionID != "exec_1" {
			t.Errorf("row %+v", row)
		}
		a := decided(models.Rejected, "too much")
		a.ID = "appr_2"
		r.announce("approval.decided", a)
		var body map[string]any
		if err := json.Unmarshal([]byte(r.next().body), &body); err != nil {
			t.Fatal(err)
		}
		if body["decision"] != "rejected" || body["decided_by"] != "dana" || body["feedback"] != "too much" || body["event"] != "approval.decided" {
			t.Errorf("decided: %v", body)
		}
	})
}

func TestNothingIsToldThatDidNotHappenOrNobodyAskedFor(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"off":   func(o *Options) { o.URL = "" },
		"other": func(o *Options) { o.Events = []string{"approval.expired"} },
	} {
		t.Run(name, func(t *testing.T) {
			eachRig(t, change, func(t *testing.T, r *rig) {
				r.start()
				r.announce("approval.requested", pending())
				if list, err := r.Of(t.Context(), "appr_1"); err != nil || len(list) != 0 {
					t.Errorf("%+v, %v", list, err)
				}
				if off := r.URL == ""; off != (len(r.Loops()) == 0) {
					t.Errorf("%d loops", len(r.Loops()))
				}
			})
		})
	}
	t.Run("rolled back", func(t *testing.T) {
		eachRig(t, nil, func(t *testing.T, r *rig) {
			r.start()
			undone := errors.New("undone")
			err := r.DB.Tx(t.Context(), func(tx *database.Tx) error {
				return errors.Join(r.Announce(t.Context(), tx, "approval.requested", pending()), undone)
			})
			if !errors.Is(err, undone) {
				t.Fatal(err)
			}
			a := pending()
			a.ID = "appr_2"
			r.announce("approval.requested", a)
			if got := r.next(); !strings.Contains(got.body, "appr_2") {
				t.Errorf("told %s", got.body)
			}
			if list, _ := r.Of(t.Context(), "appr_1"); len(list) != 0 {
				t.Errorf("queued %+v", list)
			}
		})
	})
}

func TestRefusedWordIsRepeatedFiveTimesAndGivenUp(t *testing.T) {
	eachRig(t, nil, func(t *testing.T, r *rig) {
		r.answer = func(w http.ResponseWriter, n int) {
			if n == 2 {
				w.Header().Set("Retry-After", "90")
			}
			w.WriteHeader(http.StatusInternalServerError)
		}
		r.start()
		r.announce("approval.requested", pending())
		first := r.next()
		for attempt := 1; attempt < Attempts; attempt++ {
			row := r.await("appr_1", Queued, attempt)
			pause := time.UnixMilli(row.AvailableAt).Sub(r.clock.Now())
			expected := 5 * time.Second << (attempt - 1)
			if attempt == 2 {
				expected = 90 * time.Second
			}
			if pause < expected*8/10 || pause > expected*12/10 {
				t.Errorf("the pause after attempt %d is %s, want about %s", attempt, pause, expected)
			}
			if row.LastStatus == nil || *row.LastStatus != 500 || row.LastError == nil || *row.LastError != "the receiver answered 500" {
				t.Errorf("attempt %d: %+v", attempt, row)
			}
			r.clock.Advance(pause)
			r.Wake()
			if again := r.next(); again.body != first.body {
				t.Errorf("attempt %d said something else: %s", attempt+1, again.body)
			}
		}
		if row := r.await("appr_1", Failed, Attempts); row.DeliveredAt != nil {
			t.Errorf("row %+v", row)
		}
		r.Stop(t.Context())
		if log := r.log.String(); !strings.Contains(log, "a notification was given up") || strings.Contains(log, "canary") {
			t.Errorf("log: %s", log)
		}
	})
}

func TestReceiverThatIsGoneGetsNoMore(t *testing.T) {
	eachRig(t, nil, func(_ *testing.T, r *rig) {
		r.answer = func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusGone) }
		r.start()
		r.announce("approval.requested", pending())
		r.await("appr_1", Failed, 1)
	})
}

func TestUnreachableReceiverIsExplainedWithoutItsAddress(t *testing.T) {
	eachRig(t, nil, func(t *testing.T, r *rig) {
		r.receiver.Close()
		r.start()
		r.announce("approval.requested", pending())
		if row := r.await("appr_1", Queued, 1); row.LastStatus != nil || *row.LastError != "nobody listens" {
			t.Errorf("row %+v", row)
		}
	})
}

func TestStoppingPutsBackWhatIsOnItsWay(t *testing.T) {
	eachRig(t, nil, func(t *testing.T, r *rig) {
		begun := make(chan struct{}, 1)
		release := make(chan struct{})
		r.answer = func(http.ResponseWriter, int) {
			begun <- struct{}{}
			<-release
		}
		r.Start()
		r.announce("approval.requested", pending())
		select {
		case <-begun:
		case <-time.After(dbtest.Patience):
			t.Fatal("nothing arrived")
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		r.Stop(over)
		close(release)
		row := r.await("appr_1", Queued, 0)
		if row.LeaseOwner != nil || row.LastError != nil {
			t.Errorf("row %+v", row)
		}
	})
}

func TestWordOfADeadReplicaMovesOn(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, config database.Config) {
		clock := dbtest.NewClock(time.Date(2025, 1, 15, 10, 31, 0, 0, time.UTC))
		config.Clock = clock.Now
		db := dbtest.Open(t, config)
		dead := newRig(t, db, clock, nil)
		dead.announce("approval.requested", pending())
		if claimed, err := dead.queue.Claim(t.Context(), 10); err != nil || len(claimed) != 1 {
			t.Fatalf("claimed %v, %v", claimed, err)
		}
		if err := db.Tx(t.Context(), func(tx *database.Tx) error {
			_, err := tx.Exec(t.Context(), "DELETE FROM replicas")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		alive := newRig(t, db, clock, nil)
		alive.start()
		alive.next()
		alive.await("appr_1", Delivered, 1)
	})
}

func TestSlackFormIsAnEscapedSentenceWithALink(t *testing.T) {
	s := &Service{Options: Options{Format: Slack, PublicURL: func() string { return "https://a.example" }}}
	title := pending()
	title.Title = "Pay <!channel> & <https://evil.example|click>\n" + strings.Repeat("x", 400)
	for name, c := range map[string]struct {
		approval *models.Approval
		want     string
	}{
		"requested": {
			pending(), "*A decision is needed*: Pay &lt;claim&gt; &amp; go\nclaims.review, high risk, round 2, expires 2025-01-15 12:00 UTC\n" +
				"<https://a.example/approvals/appr_1|Open the request>",
		},
		"approved": {
			decided(models.Approved, ""), "*Approved by dana*: Pay &lt;claim&gt; &amp; go\nclaims.review, high risk, round 2\n<https://a.example/approvals/appr_1|Open the request>",
		},
		"rejected": {
			decided(models.Rejected, "no\n<no>"), "*Rejected by dana*: Pay &lt;claim&gt; &amp; go\nclaims.review, high risk, round 2\n> no &lt;no&gt;\n" +
				"<https://a.example/approvals/appr_1|Open the request>",
		},
		"changes": {
			decided(models.ChangesRequested, "less"), "*Changes requested by dana*: Pay &lt;claim&gt; &amp; go\nclaims.review, high risk, round 2\n> less\n" +
				"<https://a.example/approvals/appr_1|Open the request>",
		},
		"expired": {
			decided(models.ApprovalExpired, ""), "*Expired without a decision*: Pay &lt;claim&gt; &amp; go\nclaims.review, high risk, round 2\n<https://a.example/approvals/appr_1|Open the request>",
		},
	} {
		body, err := s.body("approval.decided", c.approval, time.Unix(0, 0))
		var got map[string]string
		if err != nil || json.Unmarshal(body, &got) != nil || len(got) != 1 || got["text"] != c.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got["text"], c.want)
		}
	}
	body, _ := s.body("approval.requested", title, time.Unix(0, 0))
	if text := string(body); strings.Contains(text, "<!") || strings.Contains(text, "<https://evil") || strings.Contains(text, strings.Repeat("x", 300)) {
		t.Errorf("untrusted text went through: %s", text)
	}
}
