package execution_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// words is everything that may be said about an execution: by its node, by whoever called it, by its limits, and by the calls that
// were made for it, late ones included. What is said may be refused, but only in the ways of allowed.
var words = func() map[string]func(ctx context.Context, r *rig, id string, calls []execution.Taken) error {
	all := map[string]func(ctx context.Context, r *rig, id string, calls []execution.Taken) error{
		"cancel": func(ctx context.Context, r *rig, id string, _ []execution.Taken) error {
			_, err := r.Cancel(ctx, id, "cancelled")
			return err
		},
		"pause": func(ctx context.Context, r *rig, id string, _ []execution.Taken) error {
			_, err := r.Pause(ctx, id, "wait", nil)
			return err
		},
		"resume": func(ctx context.Context, r *rig, id string, _ []execution.Taken) error {
			_, err := r.Unpause(ctx, id, nil)
			return err
		},
		"limit": func(ctx context.Context, r *rig, id string, _ []execution.Taken) error { return r.TimeOut(ctx, id) },
		"progress": func(ctx context.Context, r *rig, id string, _ []execution.Taken) error {
			half := 0.5
			_, err := r.Progress(ctx, id, "", &half, "half", nil)
			return err
		},
	}
	for _, status := range []models.Status{models.Succeeded, models.Failed, models.Cancelled, models.Timeout, models.Running, models.Queued} {
		for attempt := range 4 {
			all[fmt.Sprintf("%s, reported of attempt %d", status, attempt)] = func(ctx context.Context, r *rig, id string, _ []execution.Taken) error {
				token := "" // of attempt 0, which is none
				if attempt > 0 {
					token = r.TokenOf(id, attempt)
				}
				_, err := r.Report(ctx, id, says(status, token))
				return err
			}
		}
	}
	for outcome, name := range []string{"answered", "failed", "refused", "accepted", "unreached", "interrupted"} {
		for _, late := range []bool{false, true} {
			all[fmt.Sprintf("%s, late %t", name, late)] = func(_ context.Context, r *rig, _ string, calls []execution.Taken) error {
				if len(calls) == 0 {
					return nil
				}
				w := calls[len(calls)-1]
				if late {
					w = calls[0]
				}
				return r.End(w, execution.Outcome(outcome), `"said"`)
			}
		}
	}
	return all
}()

func allowed(err error) bool {
	var state *execution.StateError
	return err == nil || errors.As(err, &state) || errors.Is(err, execution.ErrStaleAttempt) || errors.Is(err, execution.ErrTerminalConflict)
}

// Whatever is said, in whatever order and however much of it at once: an execution that has ended stays as it ended, there is one event
// of its end, every move is in the table, and there is one webhook when it has ended and none before.
func TestNoOrderOfWordsBreaksAnExecution(t *testing.T) {
	names := make([]string, 0, len(words))
	for name := range words {
		names = append(names, name)
	}
	slices.Sort(names)
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true, options: func(o *execution.Options) { o.Delivered = func() {} }})
		r.nodes.set("http://127.0.0.1:1")
		rapid.Check(t, func(rt *rapid.T) {
			m := &machine{t: t, rt: rt, r: r, calls: map[string][]execution.Taken{}, ended: map[string]models.Execution{}}
			m.submit()
			for range 6 {
				m.claim()
				m.disturb(rapid.SampledFrom([]string{"", "", "", "lost lease", "node away", "node back", "limits"}).Draw(rt, "disturbance"))
				m.sayAll(rapid.SliceOfN(rapid.SampledFrom(names), herd, herd).Draw(rt, "words"))
				m.nothingRisesAgain()
			}
			dbtest.Change(t, db, "DELETE FROM notices")
		})
		audit(t, r)
	})
}

type machine struct {
	t     *testing.T
	rt    *rapid.T
	r     *rig
	ids   []string
	calls map[string][]execution.Taken
	ended map[string]models.Execution
}

func (m *machine) each(f func(id string) error) {
	var wg sync.WaitGroup
	for _, id := range m.ids {
		wg.Go(func() {
			if err := f(id); !allowed(err) {
				m.t.Errorf("%s: %v", id, err)
			}
		})
	}
	wg.Wait()
	if m.t.Failed() {
		m.rt.FailNow()
	}
}

func (m *machine) submit() {
	for range herd {
		m.ids = append(m.ids, execution.NewID())
	}
	policy := retry(rapid.IntRange(1, 3).Draw(m.rt, "attempts"))
	m.each(func(id string) error {
		sub := call(`{}`)
		sub.ID, sub.Retry = id, policy
		sub.Webhook = &models.WebhookRegistration{ExecutionID: id, URL: "http://example.com/"}
		_, err := m.r.Submit(m.t.Context(), sub)
		return err
	})
}

func (m *machine) claim() {
	taken, err := m.r.Take(m.t.Context(), herd)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, w := range taken {
		m.calls[w.ID()] = append(m.calls[w.ID()], w)
	}
}

func (m *machine) disturb(how string) {
	var err error
	switch how {
	case "lost lease":
		m.r.loseLease(m.t)
		err = m.r.Reap(m.t.Context())
	case "node away":
		m.r.nodes.set()
		err = m.r.SweepPending(m.t.Context())
	case "node back":
		m.r.nodes.set("http://127.0.0.1:1")
		err = m.r.SweepPending(m.t.Context())
	case "limits":
		dbtest.Change(m.t, m.r.db, "UPDATE executions SET deadline_at = 1 WHERE finished_at IS NULL AND substr(id, 30, 1) IN ('0', '1', '2', '3')")
		err = m.r.SweepDeadlines(m.t.Context())
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// sayAll says two words about each execution, at the same time.
func (m *machine) sayAll(said []string) {
	word := map[string]string{}
	for i, id := range m.ids {
		word[id] = said[i]
	}
	m.each(func(id string) error {
		return words[word[id]](m.t.Context(), m.r, id, m.calls[id])
	})
}

func (m *machine) nothingRisesAgain() {
	found, err := m.r.GetMany(m.t.Context(), m.ids)
	if err != nil {
		m.t.Fatal(err)
	}
	for id, f := range found {
		if before, over := m.ended[id]; over && (f.Row.Status != before.Status || *f.Row.FinishedAt != *before.FinishedAt || f.Row.Attempt != before.Attempt) {
			m.t.Fatalf("%s was %s and is %s", id, before.Status, f.Row.Status)
		}
		if f.Row.Status.Terminal() {
			m.ended[id] = *f.Row
		}
	}
}
