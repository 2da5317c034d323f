// Package webhook announces the end of an execution to the address its caller gave: once the end is committed, signed, and again with
// growing pauses until the receiver has taken it. Its invariant: the delivery row is the queue entry. It is written with the terminal
// transition, so nothing is announced that did not happen and nothing that happened stays unannounced; a delivery may arrive twice,
// always under the same id.
package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/app/payload"
	"github.com/agentfield/agentfield/app/secret"
)

var errNoTerm = errors.New("this replica has lost its lease and waits for the next one")

// The statuses of a delivery.
const (
	Queued    = "queued"
	Running   = "running"
	Delivered = "delivered"
	Failed    = "failed"
)

// MaxAttempts is how often a delivery is tried, the first try included, unless it is configured otherwise (ruling C15).
const MaxAttempts = 5

const (
	defaultSlots    = 64
	defaultTimeout  = 10 * time.Second
	defaultBackoff  = 5 * time.Second
	defaultLongest  = 5 * time.Minute
	defaultPause    = 30 * time.Second
	defaultRate     = 20
	poll            = time.Second
	largeBody       = 256 << 10 // bodies beyond this share the budget below
	largeBodyBudget = 128 << 20
)

// Config has the settings; the zero value of each field means its default.
type Config struct {
	Policy      Policy        // see ForWebhooks; its timeout, 10 s by default, is that of one attempt
	Slots       int           // deliveries on their way at once; 64
	MaxAttempts int           // what a manual redelivery adds to the budget; 5
	Backoff     time.Duration // before the second attempt, doubling from then on; 5 s
	MaxBackoff  time.Duration // the longest pause, also when a receiver asks for a longer one; 5 min
	// A host that has not answered ten times in a row, and that for PauseAfter (30 s), is paused.
	PauseAfter   time.Duration
	RecoveryRate int // deliveries in a second to a host that recovers; 20
}

// Parts are what the service works with.
type Parts struct {
	DB      *database.DB
	Replica *lease.Replica
	Events  *event.Log
	Codec   *payload.Codec
	Box     *secret.Box
	Log     *slog.Logger
}

// Service prepares registrations and delivers what is due.
type Service struct {
	Parts
	policy        Policy
	maxAttempts   int
	backoff       lease.Backoff
	client        *http.Client
	queue         *lease.Queue
	worker        *lease.Worker[lease.Claimed]
	reaper        *lease.Loop
	releaser      *lease.Loop
	pauseAfter    time.Duration
	rate          int
	selectMessage string
	records       *database.Group[*record]
	hosts         *hosts
	memory        *semaphore.Weighted // for large bodies
	metrics       *metrics
}

// New returns a service at rest.
func New(c Config, parts Parts) *Service {
	c = withDefaults(c)
	s := &Service{
		Parts:       parts,
		policy:      c.Policy,
		maxAttempts: c.MaxAttempts,
		backoff:     lease.Backoff{First: c.Backoff, Max: c.MaxBackoff},
		client:      NewClient(c.Policy),
		pauseAfter:  c.PauseAfter,
		rate:        c.RecoveryRate,
		queue:       lease.NewQueue(parts.DB, parts.Replica, "webhook_deliveries"),
		hosts:       newHosts(c.Slots),
		memory:      semaphore.NewWeighted(largeBodyBudget),
	}
	s.selectMessage = selectMessage(s.hostIs())
	s.records = database.NewGroup(parts.DB, s.write)
	s.worker = &lease.Worker[lease.Claimed]{
		Name: "webhooks", Slots: c.Slots, Poll: poll, Claim: s.claim, Run: s.deliver, NextDue: s.queue.NextDue, Log: parts.Log,
	}
	s.reaper = &lease.Loop{Name: "webhooks of dead replicas", Every: parts.Replica.TTL() / 4, Do: s.reap, Log: parts.Log}
	s.releaser = &lease.Loop{Name: "webhooks of paused hosts", Every: releasePoll, Do: s.release, Log: parts.Log}
	s.metrics = newMetrics(s.worker.InUse)
	return s
}

func withDefaults(c Config) Config {
	if c.Policy.Timeout == 0 {
		c.Policy.Timeout = defaultTimeout
	}
	if c.Slots == 0 {
		c.Slots = defaultSlots
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = MaxAttempts
	}
	if c.Backoff == 0 {
		c.Backoff = defaultBackoff
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = defaultLongest
	}
	if c.PauseAfter == 0 {
		c.PauseAfter = defaultPause
	}
	if c.RecoveryRate == 0 {
		c.RecoveryRate = defaultRate
	}
	return c
}

// Start takes back what dead replicas held and begins to deliver.
func (s *Service) Start() {
	s.worker.Start()
	s.reaper.Start()
	s.releaser.Start()
}

// Stop claims nothing more and waits for what is on its way, at most as long as ctx lives; the rest is put back into the queue.
func (s *Service) Stop(ctx context.Context) {
	s.releaser.Stop()
	s.reaper.Stop()
	s.worker.Drain(ctx)
	s.client.CloseIdleConnections()
}

// Wake says that a delivery may be due. Call it after the commit that queued one.
func (s *Service) Wake() { s.worker.Wake() }

// Loops are the supervised loops of the service.
func (s *Service) Loops() []*lease.Loop { return []*lease.Loop{s.worker.Loop(), s.reaper, s.releaser} }

// claim takes work only while it may be recorded: without a term of this replica it would come straight back.
func (s *Service) claim(ctx context.Context, n int) ([]lease.Claimed, error) {
	if s.Replica.Term().Context().Err() != nil {
		return nil, errNoTerm
	}
	return s.queue.Claim(ctx, n)
}

func (s *Service) reap(ctx context.Context) (bool, error) {
	n, err := s.queue.Reap(ctx)
	if n > 0 {
		s.Log.Info("took over webhook deliveries of a replica that is gone", "deliveries", n)
		s.Wake()
	}
	return false, errors.Join(err, s.forgetSecrets(ctx))
}
