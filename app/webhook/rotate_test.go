package webhook

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/models"
)

// accepted is what a receiver with one secret makes of a delivery: by either of the documented headers, and by Standard Webhooks as its own
// verifiers do, which take a list.
func accepted(c call, secret string) (old, next, standard bool) {
	old, _ = verified(c.header, c.body, secret)
	turned := c.header.Clone()
	turned.Set(headerSignature, c.header.Get(headerNext))
	next, _ = verified(turned, c.body, secret)
	for one := range strings.FieldsSeq(c.header.Get(headerStandard)) {
		h := c.header.Clone()
		h.Set(headerStandard, one)
		if _, ok := verified(h, c.body, secret); ok {
			standard = true
		}
	}
	return old, next, standard
}

// TestBothSecretsSignWhileTheyOverlap: from the rotation to its end no receiver fails, whichever of the two it knows; then the old one is of no
// use, without anybody doing anything.
func TestBothSecretsSignWhileTheyOverlap(t *testing.T) {
	receiver := newReceiver(t, answer(http.StatusNoContent, ""))
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		r.start()
		e, first := r.subscribe(receiver.URL, EventCompleted)
		rotated, second, err := r.RotateSecret(t.Context(), olga, e.ID, "", DefaultOverlap)
		if err != nil || second == first || !rotated.Overlaps(r.DB.NowMs()) {
			t.Fatalf("%+v, %v", rotated, err)
		}
		send := func(id string) call {
			r.happened(id, models.Succeeded)
			r.next()
			return receiver.next(t)
		}
		for n, id := range []string{"exec_1", "exec_2"} {
			got := send(id)
			if old, next, standard := accepted(got, first); !old || next || !standard {
				t.Errorf("%d: who knows the old secret: %v %v %v", n, old, next, standard)
			}
			if old, next, standard := accepted(got, second); old || !next || !standard {
				t.Errorf("%d: who knows the new secret: %v %v %v", n, old, next, standard)
			}
			r.clock.Advance(DefaultOverlap - time.Second)
		}
		got := send("exec_3")
		if old, _, standard := accepted(got, first); old || standard {
			t.Error("the old secret signs for ever")
		}
		if old, _, standard := accepted(got, second); !old || !standard || got.header.Get(headerNext) != "" {
			t.Errorf("the new secret alone: %v %v", old, standard)
		}
		if _, err := r.reap(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left, err := r.Endpoint(t.Context(), e.ID); err != nil || len(left.OldSecret) != 0 || left.OldSecretUntil != nil {
			t.Errorf("the old secret is kept, %v", err)
		}
	})
}

func TestAnOldSecretIsEndedByHand(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		e, _ := r.subscribe("http://127.0.0.1:1/", EventCompleted)
		if got, key, err := r.RotateSecret(t.Context(), olga, e.ID, "a secret of my own", 0); err != nil || key != "a secret of my own" || got.OldSecretUntil != nil {
			t.Errorf("%q, %v", key, err)
		}
		if _, _, err := r.RotateSecret(t.Context(), olga, e.ID, "", time.Hour); err != nil {
			t.Fatal(err)
		}
		if got, err := r.RetireSecret(t.Context(), olga, e.ID); err != nil || got.Overlaps(r.DB.NowMs()) {
			t.Errorf("%+v, %v", got, err)
		}
		for _, overlap := range []time.Duration{-1, MaxOverlap + 1} {
			if _, _, err := r.RotateSecret(t.Context(), olga, e.ID, "", overlap); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", overlap, err)
			}
		}
		if r.entries("webhook_endpoint.rotated") != 2 || r.entries("webhook_endpoint.secret_retired") != 1 {
			t.Error("the audit log does not tell of it")
		}
	})
}
