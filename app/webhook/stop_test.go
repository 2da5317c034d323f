package webhook

import (
	"errors"
	"testing"
)

func TestWhatIsStoppedIsADeadLetter(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		r.crowd(40, 10)
		if n, more, err := r.Matching(t.Context(), Filter{Waiting: true, Class: "5xx"}); err != nil || n != 4 || more {
			t.Errorf("%d would be stopped, %v, %v", n, more, err)
		}
		done, err := r.GiveUpMatching(t.Context(), olga, Filter{Class: "5xx"})
		if err != nil || done.Stopped != 4 {
			t.Fatalf("%+v, %v", done, err)
		}
		d := r.mustFind("whd_000001")
		if d.State() != Failed || d.StoppedBy == nil || *d.StoppedBy != "user:olga" || r.Plan(d) != nil {
			t.Errorf("%+v", d)
		}
		if done, err := r.GiveUp(t.Context(), olga, "whd_000002", "whd_000003"); err != nil || done.Stopped != 1 {
			t.Errorf("one of two waits: %+v, %v", done, err)
		}
		if _, err := r.GiveUp(t.Context(), olga, "whd_000003"); !errors.Is(err, ErrNothingWaits) {
			t.Errorf("what was delivered is stopped: %v", err)
		}
		if _, err := r.GiveUpMatching(t.Context(), olga, Filter{Class: "dns"}); !errors.Is(err, ErrNothingWaits) {
			t.Errorf("nothing is found: %v", err)
		}
		if _, err := r.GiveUp(t.Context(), olga, make([]string, RedeliverLimit+1)...); !errors.Is(err, ErrTooMany) {
			t.Errorf("too many: %v", err)
		}
		if again, err := r.Redeliver(t.Context(), olga, "whd_000001"); err != nil || again.Queued != 1 {
			t.Errorf("sent again: %+v, %v", again, err)
		}
		if d := r.mustFind("whd_000001"); d.State() != Retrying || d.StoppedBy != nil || d.MaxAttempts != d.Attempt+MaxAttempts {
			t.Errorf("%+v", d)
		}
		if r.entries("webhook.stopped") != 2 {
			t.Error("the audit log does not tell of it")
		}
	})
}
