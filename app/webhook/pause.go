package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

// The states of a host. Open is also what nothing is known about. Paused gets nothing but a probe now and then, if nobody has paused it by
// hand. Recovering gets what was released, at a bounded rate, until nothing is held any more.
const (
	Open       = "open"
	Paused     = "paused"
	Recovering = "recovering"
)

const (
	// never is when a held delivery is due: in 2109, so that it stands in no queue.
	never = int64(1) << 42

	pauseFailures   = 10 // in a row, before a host is paused
	relapseFailures = 3  // in a row, before a host that recovers is paused again
	restNoted       = 60_000
	byServer        = "server"
)

// probing is the pause between two probes: half a minute first, five minutes at most.
var probing = lease.Backoff{First: 30 * time.Second, Max: 5 * time.Minute}

// seen is what an attempt told about its host.
type seen struct {
	dead  bool // nobody was there
	probe bool // it was let through to a host that is paused
	text  string
}

// observe is how a host stands after an attempt. It reports whether this pauses it.
func (s *Service) observe(h *models.WebhookHost, o seen, now int64) (pauses bool) {
	if !o.dead {
		h.Failures, h.FailingSince, h.Probes, h.LastAnsweredAt = 0, nil, 0, &now
		if h.State == Paused && h.ProbeAt != nil {
			h.State, h.ProbeAt = Recovering, nil
		}
		return false
	}
	h.Failures++
	h.LastFailedAt, h.LastError = &now, optional(o.text)
	if h.FailingSince == nil {
		h.FailingSince = &now
	}
	switch {
	case h.State == Open && h.Failures >= pauseFailures && now-*h.FailingSince >= s.pauseAfter.Milliseconds(),
		h.State == Recovering && h.Failures >= relapseFailures:
		server, probe := byServer, now+probing.Delay(1).Milliseconds()
		h.State, h.PausedAt, h.PausedBy, h.Probes, h.ProbeAt = Paused, &now, &server, 0, &probe
		return true
	case h.State == Paused && o.probe && h.ProbeAt != nil:
		h.Probes++
		probe := now + probing.Delay(h.Probes+1).Milliseconds()
		h.ProbeAt = &probe
	}
	return false
}

// dead says that a host is: nobody answered, or somebody in between said so.
func (o outcome) dead() bool {
	if o.status != nil {
		return *o.status >= 502 && *o.status <= 504
	}
	return slices.Contains(deadClasses, o.class)
}

var deadClasses = []string{classTimeout, classDNS, classTLS, classRefused, classConnection}

const (
	hostColumns = `SELECT host, state, failures, failing_since, last_error, last_failed_at, last_answered_at, paused_at, paused_by, probes, probe_at,
		released_at FROM webhook_hosts`
	oneHost    = hostColumns + ` WHERE host = $1`
	insertHost = `INSERT INTO webhook_hosts (host, state, failures, probes, released_at) VALUES ($1, 'open', 0, 0, 0) ON CONFLICT (host) DO NOTHING`
	updateHost = `UPDATE webhook_hosts SET state = $2, failures = $3, failing_since = $4, last_error = $5, last_failed_at = $6, last_answered_at = $7,
		paused_at = $8, paused_by = $9, probes = $10, probe_at = $11, released_at = $12 WHERE host = $1`
	// takeBack holds what was given up while nobody answered. $2 bounds the search, $3 is since when.
	takeBack = `UPDATE webhook_deliveries SET status = 'queued', hold = 'held', available_at = $4, max_attempts = attempt + $5 WHERE (` + stateIs + `) = 'failed'
		AND created_at >= $2 AND available_at >= $3 AND %s = $1 AND stopped_by IS NULL AND event <> '` + EventTest + `'
		AND (last_class IN ('timeout', 'dns', 'tls', 'refused', 'connection') OR last_status IN (502, 503, 504))`
)

// observeAll notes what the attempts of a batch told about their hosts, and returns how those stand then. A host that is known to be well is
// not written down again each time, nor waited for.
func (s *Service) observeAll(ctx context.Context, tx *database.Tx, records []*record) (map[string]*models.WebhookHost, error) {
	of := map[string][]*record{}
	for _, r := range records {
		if r.receiver != "" && (r.seen != nil || r.aside) {
			of[r.receiver] = append(of[r.receiver], r)
		}
	}
	names := make([]string, 0, len(of))
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names) // in one order, so that replicas never wait for each other in a circle
	known := make(map[string]*models.WebhookHost, len(names))
	for _, name := range names {
		h, err := s.observeHost(ctx, tx, name, of[name])
		if err != nil {
			return nil, fmt.Errorf("note how %s is doing: %w", name, err)
		}
		known[name] = h
	}
	return known, nil
}

func (s *Service) observeHost(ctx context.Context, tx *database.Tx, name string, records []*record) (*models.WebhookHost, error) {
	now := s.DB.NowMs()
	h, err := readHost(ctx, tx, name, false)
	if err != nil && !errors.Is(err, ErrNoHost) {
		return nil, err
	}
	troubles := func(r *record) bool { return r.aside || r.seen.dead }
	if h != nil && h.State == Open && h.Failures == 0 && h.LastAnsweredAt != nil && now-*h.LastAnsweredAt < restNoted && !slices.ContainsFunc(records, troubles) {
		return h, nil
	}
	if h == nil {
		if _, err := tx.Exec(ctx, insertHost, name); err != nil {
			return nil, err
		}
	}
	if h, err = readHost(ctx, tx, name, true); err != nil {
		return nil, err
	}
	before, since, pauses := h.State, h.FailingSince, false
	for _, r := range records {
		if r.seen == nil {
			continue
		}
		if s.observe(h, *r.seen, now) {
			pauses = true
		}
		if h.FailingSince != nil {
			since = h.FailingSince
		}
	}
	if err := writeHost(ctx, tx, h); err != nil {
		return nil, err
	}
	switch {
	case pauses && h.State == Paused:
		return h, s.paused(ctx, tx, h, *since)
	case before == Paused && h.State == Recovering:
		tx.AfterCommit(s.releaser.Wake)
		return h, s.recordHost(ctx, tx, audit.ByServer(), "webhook_host.recovered", name, nil, nil)
	}
	return h, nil
}

// paused follows the pause of a host: what was given up since nobody answered is taken back, with a whole new budget of attempts.
func (s *Service) paused(ctx context.Context, tx *database.Tx, h *models.WebhookHost, since int64) error {
	longest := int64(s.maxAttempts) * s.backoff.Max.Milliseconds() * 2
	n, err := tx.Exec(ctx, fmt.Sprintf(takeBack, s.hostIs()), h.Host, since-longest, since, never, s.maxAttempts)
	if err != nil {
		return err
	}
	tx.AfterCommit(func() {
		s.Log.Warn("a host takes no webhooks and is paused", "host", h.Host, "failures", h.Failures, "since", time.UnixMilli(since).UTC(), "taken_back", n)
	})
	return s.recordHost(ctx, tx, audit.ByServer(), "webhook_host.paused", h.Host, nil, map[string]any{"failures": h.Failures, "failing_since": since, "taken_back": n})
}

func (s *Service) recordHost(ctx context.Context, tx *database.Tx, who audit.Origin, action, host string, before, after any) error {
	return audit.Append(ctx, tx, audit.Entry{Origin: who, At: s.DB.NowMs(), Action: action, ObjectKind: "webhook_host", Object: host, Before: before, After: after})
}

// readHost reads a host; held, nobody else changes it until the transaction ends. ErrNoHost when it is not known.
func readHost(ctx context.Context, tx *database.Tx, name string, held bool) (*models.WebhookHost, error) {
	statement := oneHost
	if held && tx.Postgres() {
		statement += " FOR UPDATE"
	}
	rows, err := tx.Query(ctx, statement, name)
	if err != nil {
		return nil, err
	}
	found, err := scanHosts(rows)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNoHost
	}
	return found[0], nil
}

func scanHosts(rows database.Rows) ([]*models.WebhookHost, error) {
	defer rows.Close()
	var all []*models.WebhookHost
	for rows.Next() {
		h := &models.WebhookHost{}
		if err := rows.Scan(&h.Host, &h.State, &h.Failures, &h.FailingSince, &h.LastError, &h.LastFailedAt, &h.LastAnsweredAt, &h.PausedAt, &h.PausedBy,
			&h.Probes, &h.ProbeAt, &h.ReleasedAt); err != nil {
			return nil, fmt.Errorf("read a webhook host: %w", err)
		}
		all = append(all, h)
	}
	return all, rows.Err()
}

func writeHost(ctx context.Context, tx *database.Tx, h *models.WebhookHost) error {
	_, err := tx.Exec(ctx, updateHost, h.Host, h.State, h.Failures, h.FailingSince, h.LastError, h.LastFailedAt, h.LastAnsweredAt, h.PausedAt, h.PausedBy,
		h.Probes, h.ProbeAt, h.ReleasedAt)
	return err
}
