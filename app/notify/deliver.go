package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/lease"
)

// outcome is what came of an attempt; problem is empty when the receiver has taken the word.
type outcome struct {
	status     *int
	problem    string
	retryAfter time.Duration
	final      bool // no further attempt would help
}

// deliver is one attempt. The lease is held; whatever is said about the row is fenced by it.
func (s *Service) deliver(ctx context.Context, c lease.Claimed) {
	term := s.Replica.Term()
	if term.ID != c.Owner {
		return // the lease was lost meanwhile: the row is somebody else's
	}
	life := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(term.Context(), cancel)() //nolint:contextcheck // whichever ends first

	var kind, approvalID, body string
	s.patiently(ctx, "read a notification", func() error {
		return s.DB.QueryRow(ctx, "SELECT event, approval_id, body FROM notifications WHERE id = $1", []any{c.ID}, &kind, &approvalID, &body)
	})
	o := outcome{problem: "the notification is gone", final: true}
	if body != "" {
		o = s.send(ctx, c.ID, body)
	}
	if ctx.Err() != nil && o.status == nil {
		s.settle(life, c, nil) // nothing was told, or nobody knows: again, with another life of this replica or by another one
		return
	}
	if s.settle(life, c, &o) == Failed {
		s.Log.Warn("a notification was given up", "event", kind, "approval_id", approvalID, "attempts", c.Attempt, "error", o.problem)
	}
}

// send never fails: failure is an outcome. The address stays out of it, since those of chat systems hold a secret.
func (s *Service) send(ctx context.Context, id, body string) outcome {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader([]byte(body)))
	if err != nil {
		return outcome{problem: "notify_url cannot be used", final: true}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "AgentField-Webhook/1")
	s.Sign(request.Header, id, s.DB.Now(), []byte(body), []byte(s.Secret))
	response, err := s.Client.Do(request)
	if err != nil {
		return outcome{problem: s.Explain(err)}
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10) // so that the connection can be used again
	o := outcome{status: &response.StatusCode}
	if o.delivered() {
		return o
	}
	o.problem = fmt.Sprintf("the receiver answered %d", response.StatusCode)
	o.final = response.StatusCode == http.StatusGone
	if seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 31); err == nil {
		o.retryAfter = time.Duration(seconds) * time.Second //nolint:gosec // 31 bits of seconds fit
	}
	return o
}

func (o outcome) delivered() bool { return o.status != nil && *o.status >= 200 && *o.status < 300 }

const (
	giveBack    = `UPDATE notifications SET attempt = attempt - 1 WHERE id = $1`
	noteOutcome = `UPDATE notifications SET last_status = $1, last_error = $2, delivered_at = $3 WHERE id = $4`
)

// settle writes what came of an attempt and returns the status that follows from it; nil puts the word back as if it had not been
// claimed. The status is empty when the row was no longer ours or nothing could be written: then it is told again.
func (s *Service) settle(ctx context.Context, c lease.Claimed, o *outcome) string {
	settled := ""
	s.patiently(ctx, "record a notification", func() error {
		now := s.DB.Now()
		status, at := s.next(c, o, now)
		ours, err := s.record(context.WithoutCancel(ctx), c, o, status, now, at)
		if err == nil && ours {
			settled = status
		}
		return err
	})
	if settled == Delivered || settled == Failed {
		s.ended.WithLabelValues(settled).Inc()
	}
	return settled
}

func (s *Service) record(ctx context.Context, c lease.Claimed, o *outcome, status string, now, at time.Time) (ours bool, err error) {
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		held, err := s.queue.Settle(ctx, tx, c, status, at.UnixMilli())
		if ours = held; err != nil || !held {
			return err
		}
		if o == nil {
			_, err := tx.Exec(ctx, giveBack, c.ID)
			return err
		}
		var problem *string
		var deliveredAt *int64
		if status == Delivered {
			ms := now.UnixMilli()
			deliveredAt = &ms
		} else {
			problem = &o.problem
		}
		_, err = tx.Exec(ctx, noteOutcome, o.status, problem, deliveredAt, c.ID)
		return err
	})
	return ours, err
}

// next is the status after an attempt and the time of a further one: later if the receiver asks for it, but never later than the longest
// pause.
func (s *Service) next(c lease.Claimed, o *outcome, now time.Time) (string, time.Time) {
	switch {
	case o == nil:
		return Queued, now
	case o.delivered():
		return Delivered, now
	case o.final || c.Attempt >= c.MaxAttempts:
		return Failed, now
	}
	return Queued, now.Add(min(max(s.Backoff.Delay(c.Attempt), o.retryAfter), max(s.Backoff.Max, s.Backoff.First)))
}

// patiently repeats fn while the database is away: nobody else would look after the row as long as we live. When ctx has ended there is
// one try.
func (s *Service) patiently(ctx context.Context, act string, fn func() error) {
	for n := 1; ; n++ {
		err := fn()
		if err == nil || errors.Is(err, database.ErrNoRows) || ctx.Err() != nil {
			return
		}
		if n == 1 {
			s.Log.Error("the database does not answer; trying again", "act", act, "error", err)
		}
		lease.Rest(ctx, lease.Backoff{First: 100 * time.Millisecond, Max: 10 * time.Second}.Delay(n))
	}
}
