package approval_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

const (
	rivals  = 200 // who act on each request at the same time
	crowded = 10  // requests at the same time
	contend = 500 // requests in all
)

// raceTime bounds the race on each database where the machine is slow or busy; TEST_WHOLE_RACE=1 lifts it.
func raceTime() time.Duration {
	switch {
	case os.Getenv("TEST_WHOLE_RACE") != "":
		return time.Hour
	case testing.Short():
		return 5 * time.Second
	}
	return 15 * time.Second
}

// contest is one request that everybody wants to close.
type contest struct {
	a       *models.Approval
	made    atomic.Int64 // decisions that took effect
	cancels atomic.Int64 // cancels that did
	mu      sync.Mutex
	stands  []*models.Approval // what the losers were told
}

// People approve, reject and ask for changes, operators cancel, and time runs out, all at once and through every replica: each request
// ends once, in one way, with one entry in the audit log and one move of its execution, and every loser is told of it.
func TestEveryRequestIsDecidedOnce(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		hands := newClock()
		c.Clock = hands.now
		if c.URL != "" {
			c.URL += "&synchronous_commit=off" // the race is for locks; waiting for the disk only makes it longer
		}
		replicas := []*rig{build(t, dbtest.Open(t, c), hands)}
		if c.URL != "" { // SQLite is one process
			replicas = append(replicas, build(t, dbtest.Open(t, c), hands))
		}
		outcomes := map[models.ApprovalStatus]int{}
		end := time.Now().Add(raceTime())
		for batch := 0; batch < contend/crowded && (batch < 3 || time.Now().Before(end)); batch++ {
			for _, one := range race(t, replicas, batch) {
				outcomes[one.judge(t, replicas[0])]++
			}
		}
		t.Logf("outcomes: %v", outcomes)
		for _, way := range []models.ApprovalStatus{models.Approved, models.Rejected, models.ChangesRequested, models.ApprovalExpired, models.ApprovalWithdrawn} {
			if outcomes[way] == 0 {
				t.Errorf("no request ended as %s: this was no race", way)
			}
		}
		if report, err := audit.Verify(t.Context(), replicas[0].db); err != nil || !report.OK() {
			t.Errorf("the chain of the audit log: %+v %v", report, err)
		}
	})
}

// race lets everybody loose on a batch of requests. In every third one the time is over before all have come.
func race(t *testing.T, replicas []*rig, batch int) []*contest {
	t.Helper()
	contests := make([]*contest, crowded)
	for i := range contests {
		contests[i] = &contest{a: replicas[0].asked(t, approval.Request{ExpiresIn: time.Hour})}
	}
	replicas[0].clock.advance(time.Hour - time.Millisecond)
	var all sync.WaitGroup
	gun := make(chan struct{})
	for i, one := range contests {
		for place, n := range rand.Perm(rivals) {
			r := replicas[place%len(replicas)]
			all.Go(func() {
				<-gun
				switch {
				case n < 6 && i%3 == 0:
					one.cancel(t, r)
				case n == 7 && batch%3 == 0:
					r.clock.advance(time.Millisecond)
					one.expire(t, r)
				default:
					one.decide(t, r, n)
				}
			})
		}
	}
	close(gun)
	all.Wait()
	replicas[0].clock.advance(time.Hour)
	for _, r := range replicas {
		r.sweep(t)
	}
	return contests
}

func (c *contest) decide(t *testing.T, r *rig, n int) {
	words := []models.ApprovalStatus{models.Approved, models.Rejected, models.ChangesRequested}
	who := reviewer(fmt.Sprintf("reviewer-%d", n%50))
	done, err := r.Decide(context.WithoutCancel(t.Context()), who, c.a.ID, approval.Decision{Word: words[n%3], Feedback: "because", Hold: n%16 == 5})
	var late *approval.DecidedError
	switch {
	case errors.As(err, &late):
		c.mu.Lock()
		c.stands = append(c.stands, late.Approval)
		c.mu.Unlock()
	case err != nil:
		t.Errorf("%s decides: %v", who.Name, err)
	case !done.Repeated && done.Approval.Status != models.ApprovalHeld:
		c.made.Add(1)
	}
}

func (c *contest) cancel(t *testing.T, r *rig) {
	_, err := r.executions.Cancel(context.WithoutCancel(t.Context()), c.a.ExecutionID, "stop")
	if err == nil {
		c.cancels.Add(1)
	} else if _, ok := errors.AsType[*execution.StateError](err); !ok {
		t.Errorf("cancel: %v", err)
	}
}

func (c *contest) expire(t *testing.T, r *rig) {
	if err := r.Sweep(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("sweep: %v", err)
	}
}

// judge holds what was stored against what everybody was told, and returns how the request ended.
func (c *contest) judge(t *testing.T, r *rig) models.ApprovalStatus {
	t.Helper()
	a := r.read(t, c.a.ID)
	if a.Status.Open() || a.ClosedAt == nil {
		t.Errorf("%s is still %s", a.ID, a.Status)
		return a.Status
	}
	final := r.texts(t, `SELECT action FROM audit_log WHERE object = $1 AND action IN
		('approval.approved', 'approval.rejected', 'approval.request_changes', 'approval.expired', 'approval.withdrawn')`, a.ID)
	if len(final) != 1 || final[0] != "approval."+string(a.Status) {
		t.Errorf("%s is %s, and the audit log says %v", a.ID, a.Status, final)
	}
	resumed, ended := 0, 0
	for _, kind := range r.kinds(t, a.ExecutionID) {
		switch kind {
		case "running":
			resumed++
		case "cancelled":
			ended++
		}
	}
	wantResumed := 1
	if a.Status == models.ApprovalWithdrawn {
		wantResumed = 0
	}
	if resumed != wantResumed || ended > 1 || int(c.cancels.Load()) != ended {
		t.Errorf("%s is %s: resumed %d times, cancelled %d times by %d cancels", a.ID, a.Status, resumed, ended, c.cancels.Load())
	}
	if made := c.made.Load(); made > 1 || made == 1 && (a.Decision == nil || a.Status == models.ApprovalExpired || a.Status == models.ApprovalWithdrawn) {
		t.Errorf("%s is %s, and %d were told that they decided", a.ID, a.Status, made)
	}
	for _, s := range c.stands {
		if s.Status == models.ApprovalPending {
			t.Errorf("somebody lost to nobody: %+v", s)
		}
		if s.Status == a.Status && (text(s.DecidedBy) != text(a.DecidedBy) || text(s.DecidedAt) != text(a.DecidedAt)) {
			t.Errorf("somebody was told of %s at %s, and it was %s at %s", text(s.DecidedBy), text(s.DecidedAt), text(a.DecidedBy), text(a.DecidedAt))
		}
		if s.Status != models.ApprovalWithdrawn && (s.DecidedBy == nil || s.DecidedAt == nil) {
			t.Errorf("somebody was not told who and when: %+v", s)
		}
	}
	return a.Status
}
