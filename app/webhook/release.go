package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

var (
	// ErrNoHost says that nothing was ever sent to such a host.
	ErrNoHost = errors.New("no webhook was sent to this host: check its name and port, or list the hosts")
	// ErrHostState says that a host is paused already, or was not.
	ErrHostState = errors.New("the host is in this state already")
)

const (
	releasePoll = time.Second
	releaseBeat = 250 * time.Millisecond
	window      = 1000 // ms over which a rate is counted
)

const (
	closedHosts = hostColumns + ` WHERE state <> 'open' ORDER BY host LIMIT 1000`
	letSome     = `UPDATE webhook_deliveries SET hold = 'released', available_at = $1 WHERE id IN
		(SELECT id FROM webhook_deliveries WHERE hold = 'held' AND %s = $2 ORDER BY created_at, id LIMIT $3)`
	anyHeld   = `SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE hold = 'held' AND %s = $1 LIMIT $2) t`
	takeProbe = `UPDATE webhook_hosts SET probe_at = $2 WHERE host = $1 AND state = 'paused' AND probe_at <= $3`
	takeTurn  = `UPDATE webhook_hosts SET released_at = $2 WHERE host = $1 AND state = 'recovering' AND released_at <= $3`
	reopen    = `UPDATE webhook_hosts SET state = 'open', paused_at = NULL, paused_by = NULL, probe_at = NULL, probes = 0 WHERE host = $1`
)

// mayPass reports whether the delivery may be tried now. A test is what somebody does to see how the host is.
func (m *message) mayPass() bool {
	switch {
	case m.event == EventTest:
		return true
	case m.state == Paused:
		return m.released && m.probing
	case m.state == Recovering:
		return m.released
	}
	return true
}

// release lets through what is held: one delivery as a probe of a host that is paused, and a bounded number in a second to one that recovers.
// Whose turn it is the database decides, so that replicas together keep to the rate.
func (s *Service) release(ctx context.Context) (bool, error) {
	rows, err := s.DB.Query(ctx, closedHosts)
	if err != nil {
		return false, fmt.Errorf("look for hosts that are not open: %w", err)
	}
	closed, err := scanHosts(rows)
	if err != nil {
		return false, err
	}
	var failures error
	for _, h := range closed {
		if h.State == Recovering {
			s.releaser.DueIn(releaseBeat)
		}
		failures = errors.Join(failures, s.releaseHost(ctx, h))
	}
	return false, failures
}

func (s *Service) releaseHost(ctx context.Context, h *models.WebhookHost) error {
	now := s.DB.NowMs()
	switch {
	case h.State == Recovering && h.ReleasedAt <= now-window:
		return s.releaseTurn(ctx, h.Host, now)
	case h.State == Paused && h.ProbeAt != nil && *h.ProbeAt <= now:
		return s.releaseProbe(ctx, h, now)
	}
	return nil
}

// releaseTurn lets as many through as one second allows. When fewer were held, none is any more, and the host is open.
func (s *Service) releaseTurn(ctx context.Context, host string, now int64) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		if mine, err := tx.Exec(ctx, takeTurn, host, now, now-window); err != nil || mine == 0 {
			return err
		}
		n, err := tx.Exec(ctx, fmt.Sprintf(letSome, s.hostIs()), now, host, s.rate)
		if err != nil {
			return err
		}
		tx.AfterCommit(s.Wake)
		if n == int64(s.rate) {
			return nil
		}
		_, err = tx.Exec(ctx, reopen, host)
		return err
	})
	if err != nil {
		return fmt.Errorf("release what waits for %s: %w", host, err)
	}
	return nil
}

// releaseProbe lets one through. A host for which nothing is held is not asked; the first that comes then is the probe.
func (s *Service) releaseProbe(ctx context.Context, h *models.WebhookHost, now int64) error {
	held, err := s.heldFor(ctx, h.Host, 1)
	if err != nil || held == 0 {
		return err
	}
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		later := now + probing.Delay(h.Probes+1).Milliseconds()
		if mine, err := tx.Exec(ctx, takeProbe, h.Host, later, now); err != nil || mine == 0 {
			return err
		}
		tx.AfterCommit(s.Wake)
		_, err := tx.Exec(ctx, fmt.Sprintf(letSome, s.hostIs()), now, h.Host, 1)
		return err
	})
	if err != nil {
		return fmt.Errorf("probe %s: %w", h.Host, err)
	}
	return nil
}

// heldFor counts what waits for a host, up to a limit.
func (s *Service) heldFor(ctx context.Context, host string, limit int) (int, error) {
	var n int
	if err := s.DB.QueryRow(ctx, fmt.Sprintf(anyHeld, s.hostIs()), []any{host, limit}, &n); err != nil {
		return 0, fmt.Errorf("count what waits for %s: %w", host, err)
	}
	return n, nil
}

// hold sets a delivery aside as if it had not been claimed, until its host is open again.
func (s *Service) hold(ctx context.Context, c lease.Claimed, m message) {
	s.store(ctx, &record{claimed: c, receiver: m.receiver, aside: true, status: Queued, availableAt: s.DB.NowMs()})
}

// PauseHost keeps everything from a host until somebody resumes it.
func (s *Service) PauseHost(ctx context.Context, who audit.Origin, host string) error {
	return s.onHost(ctx, who, host, "webhook_host.paused", func(h *models.WebhookHost) bool {
		if h.State == Paused && h.ProbeAt == nil {
			return false
		}
		now := s.DB.NowMs()
		h.State, h.PausedAt, h.PausedBy, h.Probes, h.ProbeAt = Paused, &now, &who.Actor, 0, nil
		return true
	})
}

// ResumeHost lets a host have what waits for it, at a bounded rate. If nobody answers there, it is paused again soon.
func (s *Service) ResumeHost(ctx context.Context, who audit.Origin, host string) error {
	err := s.onHost(ctx, who, host, "webhook_host.resumed", func(h *models.WebhookHost) bool {
		if h.State != Paused {
			return false
		}
		h.State, h.Failures, h.FailingSince, h.Probes, h.ProbeAt, h.ReleasedAt = Recovering, 0, nil, 0, nil, 0
		return true
	})
	if err == nil {
		s.releaser.Wake()
	}
	return err
}

// onHost changes a host for somebody; ErrHostState when there is nothing to change.
func (s *Service) onHost(ctx context.Context, who audit.Origin, host, action string, change func(h *models.WebhookHost) bool) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		h, err := readHost(ctx, tx, host, true)
		if err != nil {
			return err
		}
		before := h.State
		if !change(h) {
			return ErrHostState
		}
		if err := writeHost(ctx, tx, h); err != nil {
			return err
		}
		return s.recordHost(ctx, tx, who, action, host, map[string]string{"state": before}, map[string]string{"state": h.State})
	})
	if err != nil {
		return fmt.Errorf("look after a webhook host: %w", err)
	}
	return nil
}
