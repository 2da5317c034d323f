// Package node knows the agents: which are registered, what functions they have, where their instances run and which of them answer.
// Its invariant: silence condemns nobody. Only failed calls and probes take an instance out of rotation, and whatever answers again
// comes back.
package node

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

// What callers may have to tell apart.
var (
	ErrUnknownNode     = errors.New("node not found")
	ErrUnknownFunction = errors.New("function not found")
	ErrNoInstance      = errors.New("no instance of the node can be called at the moment")
	ErrNotOwner        = errors.New("this node id belongs to someone else: registering it from a new address needs its node token")
)

// Lifecycle and health as they are stored (wire.md 3.3).
const (
	Starting = "starting"
	Ready    = "ready"
	Degraded = "degraded" // both a lifecycle and a health
	Offline  = "offline"
	Unknown  = "unknown"
	Active   = "active"
	Inactive = "inactive"
)

// The kinds of functions and of deployments.
const (
	Reasoner    = "reasoner"
	Skill       = "skill"
	LongRunning = "long_running"
	Serverless  = "serverless"
)

// Options are what the service works with. Zero values of the numbers mean the defaults named beside them.
type Options struct {
	DB     *database.DB
	Events *event.Log
	Hub    *event.Hub   // tells about changes that other replicas made; nil: none
	Client *http.Client // for probes
	Log    *slog.Logger
	// CheckURL refuses addresses that no agent may have (link-local, metadata); nil: none.
	CheckURL func(rawURL string) error
	// MayDiscover says which addresses besides those of this machine may be asked what a serverless agent there can do; nil: none.
	MayDiscover func(u *url.URL) bool

	InternalToken      string // sent to agents as a bearer token, when set
	TokenKey           []byte // key of the node tokens, at least 16 bytes
	AllowUnsigned      bool   // accept agents that send no node token
	DefaultConcurrency int    // cap of a node that declares none; 0: no cap

	HealthCheckInterval time.Duration // between two probes of one instance; 10 s
	HealthCheckTimeout  time.Duration // of one probe; 3 s
	Failures            int           // unreachable in a row before an instance is taken out; 3
	HeartbeatInterval   time.Duration // assumed of agents that do not tell theirs; 30 s

	// OnInstanceLost is called after an instance has ended: restarted, shut down or forgotten.
	OnInstanceLost func(ctx context.Context, instanceID, reason string)
	// OnAvailable is called after an instance of the node has become usable.
	OnAvailable func(nodeID string)
}

// Service keeps the registry. Reads on the hot path come from memory; every change is a row with an event first.
type Service struct {
	o       Options
	db      *database.DB
	log     *slog.Logger
	probes  *http.Client
	shelves sync.Map // node id → *shelf
	schemas *schemaCache
	pulses  pulses

	verdictLoop *lease.Loop
	probeLoop   *lease.Loop
	refreshLoop *lease.Loop // PostgreSQL only: other replicas write too
}

// New returns a service; it panics without a usable TokenKey, which would let anybody forge node tokens.
func New(o Options) *Service {
	if len(o.TokenKey) < 16 {
		panic("node: Options.TokenKey must have at least 16 bytes")
	}
	o = o.withDefaults()
	s := &Service{o: o, db: o.DB, log: o.Log, probes: probeClient(o.Client), schemas: newSchemaCache()}
	s.pulses.pending = map[string]*Instance{}
	s.verdictLoop = &lease.Loop{Name: "node verdicts", Every: time.Second, Do: s.writeVerdicts, Log: o.Log}
	s.probeLoop = &lease.Loop{Name: "node probes", Every: o.HealthCheckInterval, Do: s.probeDue, Log: o.Log}
	if o.DB.Postgres() {
		s.refreshLoop = &lease.Loop{Name: "node registry", Every: refreshEvery, Do: s.refresh, Log: o.Log}
	}
	if o.Hub != nil {
		o.Hub.Tap(s.observe)
	}
	return s
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Client == nil {
		o.Client = &http.Client{}
	}
	if o.CheckURL == nil {
		o.CheckURL = func(string) error { return nil }
	}
	if o.MayDiscover == nil {
		o.MayDiscover = func(*url.URL) bool { return false }
	}
	if o.HealthCheckInterval <= 0 {
		o.HealthCheckInterval = 10 * time.Second
	}
	if o.HealthCheckTimeout <= 0 {
		o.HealthCheckTimeout = 3 * time.Second
	}
	if o.Failures <= 0 {
		o.Failures = 3
	}
	if o.HeartbeatInterval <= 0 {
		o.HeartbeatInterval = 30 * time.Second
	}
	if o.OnInstanceLost == nil {
		o.OnInstanceLost = func(context.Context, string, string) {}
	}
	if o.OnAvailable == nil {
		o.OnAvailable = func(string) {}
	}
	return o
}

// Start begins to probe and to write down what calls have shown.
func (s *Service) Start() {
	s.Loops().Start()
}

// Stop ends the background work and waits for it.
func (s *Service) Stop() {
	s.Loops().Stop()
}

// Loops are the background loops, for supervision.
func (s *Service) Loops() lease.Loops {
	loops := lease.Loops{s.verdictLoop, s.probeLoop}
	if s.refreshLoop != nil {
		loops = append(loops, s.refreshLoop)
	}
	return loops
}

// observe drops from memory what an event says has changed.
func (s *Service) observe(events []*models.Event) {
	for _, e := range events {
		if e.Kind == event.KindNode {
			s.invalidate(e.NodeID)
		}
	}
}
