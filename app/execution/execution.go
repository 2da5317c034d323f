// Package execution is the life of one call: written down, queued, handed to an instance of its node, waited for, and finished. Its
// invariant: the row is the truth and the queue item at once; every status is moved by transition.go and claim.go under a guard, and a
// terminal status is final.
//
// Of the queue: its index holds exactly what may be claimed now. What is put off, or waits behind its concurrency key, is parked outside of
// it, so a claim costs as much as it takes. Caps and rates are counted by the transaction that claims, while it holds the node's row. The
// highest priority goes first; within it functions and callers take turns, and each caller's executions keep their order.
package execution

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/app/payload"
	"github.com/agentfield/agentfield/models"
)

// What callers may be told. The API maps each to an answer.
var (
	ErrNotFound       = errors.New("execution not found")
	ErrNoInstance     = errors.New("no instance of the node can be reached")
	ErrCircuitOpen    = fmt.Errorf("every instance of the node fails its calls and rests: %w", ErrNoInstance)
	ErrIdempotencyKey = errors.New("this Idempotency-Key was used with another request: use a new key for a new request")
	ErrDraining       = errors.New("this server is shutting down: send the request again")
	ErrStaleAttempt   = errors.New("this report belongs to an earlier attempt of the execution; a later one has taken over")
	ErrBusy           = database.ErrBusy // the store is saturated: nothing was written
	ErrBadToken       = errors.New("the execution token is missing or does not fit this execution")
)

// QueueFullError refuses work before anything is written.
type QueueFullError struct {
	Node       string // empty: the whole server's queue is full
	Depth      int
	RetryAfter time.Duration
}

func (e *QueueFullError) Error() string {
	if e.Node == "" {
		return fmt.Sprintf("the queue of this server is full (%d executions wait): try again later", e.Depth)
	}
	return fmt.Sprintf("the queue of %s is full (%d executions wait): try again later", e.Node, e.Depth)
}

// StateError says that the execution's status does not allow what was asked.
type StateError struct {
	ID     string
	Status models.Status
	Wanted string // cancelled, running, …
}

func (e *StateError) Error() string {
	return fmt.Sprintf("the execution is %s and cannot become %s", e.Status, e.Wanted)
}

// Function is what execution needs to know of the function it calls.
type Function struct {
	NodeID     string
	Name       string
	Kind       string // reasoner or skill
	Limited    bool   // its node or itself has a cap or a rate: places are given out by the claim alone
	NodeDepth  int    // executions that may wait for the node; 0: the server's own limit for one node
	Depth      int    // … for this function; 0: as many as for the node
	Idempotent bool   // may see the same execution twice: what an instance fails goes to the next one
	Validate   func(input []byte) error
	Address    any // the registry's own view of the function, handed back to Claim
}

// Instance is one address that a call may go to. Release gives its place back and tells how it went.
type Instance struct {
	ID         string
	URL        string // where to post the input
	Serverless bool   // the input goes in an envelope (wire.md 4.3)
	Release    func(Reach)
}

// Reach is what a call told about the instance it went to.
type Reach int

// The ways a call may end, as far as the health of the instance is concerned.
const (
	ReachedOK      Reach = iota // it answered
	ReachedRefused              // it answered 4xx: the caller's fault, says nothing about the instance
	ReachedFailed               // it answered 5xx or nonsense, or took too long
	NotReached                  // no connection
	HungUp                      // we broke the call off: says nothing about the instance
)

// Nodes finds functions and the instances that serve them.
type Nodes interface {
	Lookup(ctx context.Context, nodeID, function string) (Function, error)
	// Claim takes a place at an instance that is not among tried; any includes those that look unhealthy. ErrNoInstance if none is left.
	Claim(f Function, tried map[string]bool, anyHealth bool) (Instance, error)
	Usable(nodeID string) bool
	// Addresses lists the base URLs of one instance, or of all of the node when instanceID is nil.
	Addresses(ctx context.Context, nodeID string, instanceID *string) ([]string, error)
}

// Options are the parts and limits of the service.
type Options struct {
	DB      *database.DB
	Events  *event.Log
	Hub     *event.Hub
	Replica *lease.Replica
	Nodes   Nodes
	Client  *http.Client // follows the policy for nodes; no time-out of its own
	Codec   *payload.Codec
	Log     *slog.Logger

	TokenKey      []byte // of execution tokens
	InternalToken string // sent to agents as a bearer token, when set
	AllowUnsigned bool   // accept reports without an execution token (published SDKs send none)

	Workers           int // calls at once
	QueueDepth        int // executions that may wait in all
	NodeDepth         int // … for one node
	SyncTimeout       time.Duration
	MaxTimeout        time.Duration
	ResultLimit       int64 // bytes of an agent's answer
	WebhookAttempts   int
	MaxRedeliveries   int
	RedeliveryBackoff lease.Backoff
	// LeftWaiting is called in the transaction that moves an execution out of waiting, whatever the reason.
	LeftWaiting func(ctx context.Context, tx *database.Tx, row *models.Execution, now int64) error
	// Told is called when an agent has taken a notice at an address of its own, with its answer.
	Told func(ctx context.Context, n *models.Notice, answer []byte)
	// Delivered is called after a commit that queued a webhook.
	Delivered func()
	// Ended is called after the commit that ended an execution here. It must not wait.
	Ended func(row *models.Execution)
	// Announce is called in the transaction that ends executions or makes them wait, with the rows as they are then.
	Announce func(ctx context.Context, tx *database.Tx, rows []*models.Execution, now int64) error
}

// Service runs executions.
type Service struct {
	Options
	submits   *database.Group[*submission]
	moves     *database.Group[*move]
	notices   *lease.Queue
	worker    *lease.Worker[*claimed]
	teller    *lease.Worker[lease.Claimed]
	loops     lease.Loops
	deadlines *lease.Loop
	gauge     gauge
	waiters   waiters
	inFlight  inFlight
	direct    sync.WaitGroup // calls of synchronous executions
	stopping  chan struct{}
	stopOnce  sync.Once
	draining  sync.Mutex // between the beginning of direct calls and Drain
	hand      lease.Hand
	counters  Counters
	capped    atomic.Bool  // work waits for a node or a function with a cap: whatever ends may let it run
	opensAt   atomic.Int64 // us: when a rate lets something begin; 0: nothing waits for that
	turns     turns
}

// New wires the service; Start sets it going.
func New(o Options) *Service {
	s := &Service{Options: o, stopping: make(chan struct{})}
	s.submits = database.NewGroup(o.DB, s.insert)
	s.moves = database.NewGroup(o.DB, s.moveAll)
	s.notices = lease.NewQueue(o.DB, o.Replica, "notices")
	s.worker = &lease.Worker[*claimed]{
		Name: "dispatch", Slots: o.Workers, Poll: time.Second, Log: o.Log,
		Claim: s.claim, Run: s.run, NextDue: s.nextDue,
	}
	s.teller = &lease.Worker[lease.Claimed]{
		Name: "notices", Slots: 16, Poll: time.Second, Log: o.Log,
		Claim: s.notices.Claim, Run: s.tell, NextDue: s.notices.NextDue,
	}
	s.deadlines = &lease.Loop{Name: "deadlines", Every: time.Second, Do: s.sweepDeadlines, Log: o.Log}
	s.loops = lease.Loops{
		{Name: "reap", Every: o.Replica.TTL() / 4, Do: s.reap, Log: o.Log},
		s.deadlines,
		{Name: "orphans", Every: 10 * time.Second, Do: s.sweepOrphans, Log: o.Log},
		{Name: "local calls", Every: 10 * time.Second, Do: s.sweepLocal, Log: o.Log},
		{Name: "pending", Every: time.Second, Do: s.sweepPending, Log: o.Log},
		{Name: "waiters", Every: 500 * time.Millisecond, Do: s.checkWaiters, Log: o.Log},
		{Name: "gauge", Every: 250 * time.Millisecond, Do: s.measure, Log: o.Log},
		{Name: "expire keys", Every: 10 * time.Minute, Do: s.expireKeys, Log: o.Log},
	}
	o.Hub.Tap(s.heard)
	return s
}

// Start takes over what dead replicas left and begins to work.
func (s *Service) Start() {
	s.loops.Start()
	s.worker.Start()
	s.teller.Start()
}

// Drain refuses new work and stops claiming; calls that run may end until ctx does. What has not ended then goes back to the queue.
func (s *Service) Drain(ctx context.Context) {
	s.draining.Lock() // whoever begins a call has begun it before, or sees that we drain
	s.stopOnce.Do(func() { close(s.stopping) })
	s.draining.Unlock()
	ended := make(chan struct{})
	go func() {
		s.direct.Wait()
		close(ended)
	}()
	s.worker.Drain(ctx)
	select {
	case <-ended:
	case <-ctx.Done():
		s.inFlight.interruptAll()
		<-ended
	}
	s.teller.Drain(ctx)
}

// Stop ends the background loops. Drain comes first.
func (s *Service) Stop() {
	s.loops.Stop()
}

// Draining reports whether new work is refused.
func (s *Service) Draining() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// Wake says that another replica has left work or news.
func (s *Service) Wake() {
	s.worker.Wake()
	s.teller.Wake()
}

// Loops are the background loops, for supervision.
func (s *Service) Loops() lease.Loops {
	return append(lease.Loops{s.worker.Loop(), s.teller.Loop()}, s.loops...)
}

// heard is told of every committed event, our own and those of other replicas.
func (s *Service) heard(events []*models.Event) {
	for _, e := range events {
		if e.ExecutionID == nil {
			continue
		}
		if e.Kind == event.KindApproval {
			s.waiters.changed(*e.ExecutionID)
		}
		status, ok := statusOf(e.Kind)
		if !ok {
			s.waiters.moved(*e.ExecutionID) // an attempt that failed is back in the queue
			continue
		}
		if status.Terminal() || status == models.Waiting {
			s.waiters.changed(*e.ExecutionID)
		} else {
			s.waiters.moved(*e.ExecutionID)
		}
		if status == models.Waiting {
			s.inFlight.free(*e.ExecutionID)
		}
		if status.Terminal() {
			s.inFlight.stop(*e.ExecutionID, endOf(status))
		}
	}
}

func statusOf(kind string) (models.Status, bool) {
	const prefix = "execution."
	if len(kind) <= len(prefix) {
		return "", false
	}
	return models.ParseStatus(kind[len(prefix):])
}
