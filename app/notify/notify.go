// Package notify tells one configured address that an approval was requested, decided or has expired, so that reviewers learn of it. Its
// invariant: the word is a row written in the transaction that it speaks of. Nothing is told that did not happen, what happened is told
// at least once unless the receiver refuses five times, and nobody waits for the receiver.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

// Attempts is how often a notification is tried, the first try included.
const Attempts = 5

// The statuses of a notification.
const (
	Queued    = "queued"
	Running   = "running"
	Delivered = "delivered"
	Failed    = "failed"
)

// Slack is the format of an incoming webhook of Slack; every other word means the JSON object.
const Slack = "slack"

// Options are the parts and settings.
type Options struct {
	DB      *database.DB
	Replica *lease.Replica
	Log     *slog.Logger

	Client *http.Client // refuses addresses that must not be reached, and bounds an attempt
	// Sign signs a body as webhooks are signed.
	Sign func(header http.Header, id string, at time.Time, body, secret []byte)
	// Explain says why Client got no answer, without the address it went to.
	Explain func(err error) string

	URL       string // where to; empty: nothing is told
	Secret    string // signs; empty: unsigned
	Format    string // json or slack
	Events    []string
	Backoff   lease.Backoff
	PublicURL func() string // of this server, for links
}

// Service takes word of approvals and delivers it.
type Service struct {
	Options
	queue  *lease.Queue
	worker *lease.Worker[lease.Claimed]
	reaper *lease.Loop
	ended  *prometheus.CounterVec // by status
}

const (
	slots = 8
	poll  = time.Second
)

// New returns a service at rest.
func New(o Options) *Service {
	s := &Service{Options: o, queue: lease.NewQueue(o.DB, o.Replica, "notifications")}
	s.worker = &lease.Worker[lease.Claimed]{
		Name: "notifications", Slots: slots, Poll: poll, Claim: s.queue.Claim, Run: s.deliver, NextDue: s.queue.NextDue, Log: o.Log,
	}
	s.reaper = &lease.Loop{Name: "notifications of dead replicas", Every: o.Replica.TTL() / 4, Do: s.reap, Log: o.Log}
	s.ended = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "agentfield_notifications_total", Help: "Notifications that ended, by status.",
	}, []string{"status"})
	return s
}

// Start begins to deliver, if there is an address.
func (s *Service) Start() {
	if s.URL == "" {
		return
	}
	s.worker.Start()
	s.reaper.Start()
}

// Stop claims nothing more and waits for what is on its way, at most as long as ctx lives; the rest goes back into the queue.
func (s *Service) Stop(ctx context.Context) {
	s.reaper.Stop()
	s.worker.Drain(ctx)
	s.Client.CloseIdleConnections()
}

// Wake says that a notification may be due.
func (s *Service) Wake() {
	if s.URL != "" {
		s.worker.Wake()
	}
}

// Loops are the background loops, for supervision.
func (s *Service) Loops() []*lease.Loop {
	if s.URL == "" {
		return nil
	}
	return []*lease.Loop{s.worker.Loop(), s.reaper}
}

// Collectors are the metrics.
func (s *Service) Collectors() []prometheus.Collector { return []prometheus.Collector{s.ended} }

const insert = `INSERT INTO notifications (id, event, approval_id, execution_id, body, status, available_at, attempt, max_attempts, created_at)
	VALUES ($1, $2, $3, $4, $5, 'queued', $6, 0, $7, $6)`

// Announce queues the word of what happens to a request in tx: kind is approval.requested, approval.decided or approval.expired.
func (s *Service) Announce(ctx context.Context, tx *database.Tx, kind string, a *models.Approval) error {
	if s.URL == "" || !slices.Contains(s.Events, kind) {
		return nil
	}
	now := s.DB.Now()
	body, err := s.body(kind, a, now)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, insert, newID(), kind, a.ID, a.ExecutionID, string(body), now.UnixMilli(), Attempts); err != nil {
		return fmt.Errorf("queue a notification: %w", err)
	}
	tx.AfterCommit(s.worker.Wake)
	return nil
}

// newID sorts by time.
func newID() string {
	return "ntf_" + strings.ReplaceAll(uuid.Must(uuid.NewV7()).String(), "-", "")
}

// Of lists what was told about a request, oldest first.
func (s *Service) Of(ctx context.Context, approvalID string) ([]models.Notification, error) {
	var list []models.Notification
	if err := s.DB.Gorm(ctx).Where("approval_id = ?", approvalID).Order("created_at, id").Find(&list).Error; err != nil {
		return nil, fmt.Errorf("read the notifications of an approval: %w", err)
	}
	return list, nil
}

func (s *Service) reap(ctx context.Context) (bool, error) {
	n, err := s.queue.Reap(ctx)
	if n > 0 {
		s.Log.Info("took over notifications of a replica that is gone", "notifications", n)
		s.Wake()
	}
	return false, err
}
