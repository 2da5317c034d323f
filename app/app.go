// Package app puts the server together: it builds every service once, wires them, starts them in order and stops them in reverse. It
// alone knows everybody.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/agentfield/agentfield/api"
	"github.com/agentfield/agentfield/app/agentlog"
	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/bulk"
	"github.com/agentfield/agentfield/app/config"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/desk"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/app/memory"
	"github.com/agentfield/agentfield/app/node"
	"github.com/agentfield/agentfield/app/notify"
	"github.com/agentfield/agentfield/app/payload"
	"github.com/agentfield/agentfield/app/secret"
	"github.com/agentfield/agentfield/app/trace"
	"github.com/agentfield/agentfield/app/view"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// App is one replica of the server.
type App struct {
	config     config.Config
	log        *slog.Logger
	db         *database.DB
	replica    *lease.Replica
	hub        *event.Hub
	tail       *event.Tail
	nodes      *node.Service
	executions *execution.Service
	approvals  *approval.Service
	bulk       *bulk.Service
	workflows  *workflow.Service
	traces     *trace.Exporter
	desk       *desk.Desk
	logs       *agentlog.Service
	notify     *notify.Service
	webhooks   *webhook.Service
	server     *api.Server
	listener   net.Listener
	failed     chan error
}

// Clock replaces the time of the database and of the services, for tests.
type Clock func() time.Time

// New opens the database and builds the services. Nothing runs and nobody is answered before Start.
func New(ctx context.Context, c config.Config, log *slog.Logger) (*App, error) {
	return NewWithClock(ctx, c, log, nil)
}

// NewWithClock is New under another clock; nil is the real one.
func NewWithClock(ctx context.Context, c config.Config, log *slog.Logger, clock Clock) (*App, error) {
	a := &App{config: c, log: log, hub: event.NewHub(), failed: make(chan error, 1)}
	db, err := database.Open(ctx, database.Config{
		DataDir: c.DataDir, URL: c.DatabaseURL, MaxConns: int32(c.DatabaseMaxConns), Clock: clock, Log: log, //nolint:gosec // validated: a small number
	})
	if err != nil {
		return nil, err
	}
	a.db = db
	if err := a.build(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return a, nil
}

func (a *App) build(ctx context.Context) error {
	c := a.config
	box, err := a.openBox(ctx)
	if err != nil {
		return err
	}
	allowed, err := webhook.ParseAllowList(c.WebhookAllowedHosts)
	if err != nil {
		return fmt.Errorf("read webhook_allowed_hosts: %w", err)
	}
	serverless, err := webhook.ParseAllowList(c.ServerlessAllowedHosts)
	if err != nil {
		return fmt.Errorf("read serverless_allowed_hosts: %w", err)
	}
	codec, err := payload.NewCodec()
	if err != nil {
		return err
	}
	if a.replica, err = lease.Join(ctx, a.db, c.LeaseTTL, a.log); err != nil {
		return err
	}
	events := event.NewLog(a.hub)
	toNodes := webhook.ForNodes(webhook.AllowList{}, 0)
	client := webhook.NewClient(toNodes)
	a.tail = event.NewTail(a.db, a.hub, a.log, a.replica.Others, a.wake)
	a.nodes = node.New(node.Options{
		DB: a.db, Events: events, Hub: a.hub, Client: client, Log: a.log,
		CheckURL:            func(raw string) error { return webhook.CheckURL(toNodes, raw) },
		MayDiscover:         serverless.Lists,
		TokenKey:            box.Derive("node tokens"),
		InternalToken:       c.InternalToken,
		AllowUnsigned:       c.AcceptsUnsignedAgents(),
		DefaultConcurrency:  c.NodeConcurrency,
		HealthCheckInterval: c.HealthCheckInterval, HealthCheckTimeout: c.HealthCheckTimeout, Failures: c.HealthFailures,
		OnInstanceLost: a.instanceLost, OnAvailable: a.nodeAvailable,
	})
	a.webhooks = webhook.New(webhook.Config{
		Policy: webhook.ForWebhooks(allowed, c.WebhookTimeout), MaxAttempts: c.WebhookMaxAttempts, Backoff: c.WebhookBackoff, MaxBackoff: c.WebhookMaxBackoff,
		PauseAfter: c.WebhookPauseAfter, RecoveryRate: c.WebhookRecoveryRate,
	}, webhook.Parts{DB: a.db, Replica: a.replica, Events: events, Codec: codec, Box: box, Log: a.log})
	headers, err := c.TraceHeaders()
	if err != nil {
		return err
	}
	toCollector := webhook.ForNodes(webhook.AllowList{}, 1<<20)
	toCollector.Timeout = 10 * time.Second
	a.traces = trace.New(trace.Options{
		Client: webhook.NewClient(toCollector), Endpoint: c.OTLPEndpoint, Headers: headers, Version: Version(), Replica: a.replica.ID(), Log: a.log,
	})
	a.executions = execution.New(execution.Options{
		DB: a.db, Events: events, Hub: a.hub, Replica: a.replica, Nodes: registry{a.nodes}, Client: client, Codec: codec, Log: a.log,
		TokenKey: box.Derive("execution tokens"), InternalToken: c.InternalToken, AllowUnsigned: c.AcceptsUnsignedAgents(),
		Workers: c.Workers, QueueDepth: c.QueueDepth, NodeDepth: c.NodeDepth, SyncTimeout: c.SyncTimeout, MaxTimeout: c.MaxTimeout,
		ResultLimit: int64(c.ResultLimit), WebhookAttempts: c.WebhookMaxAttempts, MaxRedeliveries: maxRedeliveries,
		RedeliveryBackoff: lease.Backoff{First: 50 * time.Millisecond, Max: 10 * time.Second}, Delivered: a.webhooks.Wake,
		Announce: a.webhooks.Announce, Ended: a.traces.Ended,
		// Approvals are built on executions; what executions tell them comes back through these two.
		LeftWaiting: func(ctx context.Context, tx *database.Tx, row *models.Execution, now int64) error {
			return a.approvals.LeftWaiting(ctx, tx, row, now)
		},
		Told: func(ctx context.Context, n *models.Notice, answer []byte) { a.approvals.Told(ctx, n, answer) },
	})
	toOthers := webhook.ForWebhooks(allowed, c.WebhookTimeout)
	if c.NotifyURL != "" {
		if err := webhook.CheckURL(toOthers, c.NotifyURL); err != nil {
			return fmt.Errorf("notify_url cannot be used (webhook_allowed_hosts lists exceptions): %w", err)
		}
	}
	a.notify = notify.New(notify.Options{
		DB: a.db, Replica: a.replica, Log: a.log, Client: webhook.NewClient(toOthers), Sign: webhook.Sign,
		Explain: webhook.Explain, URL: c.NotifyURL, Secret: c.NotifySecret, Format: c.NotifyFormat, Events: c.NotifyEvents,
		Backoff: lease.Backoff{First: c.WebhookBackoff, Max: c.WebhookMaxBackoff}, PublicURL: a.publicURL,
	})
	a.approvals = approval.New(approval.Options{
		DB: a.db, Events: events, Executions: a.executions, Codec: codec, Log: a.log, PublicURL: a.publicURL,
		DefaultExpiry: time.Duration(c.ApprovalExpiryHours) * time.Hour, OnReject: c.ApprovalOnReject, OnExpire: c.ApprovalOnExpire, Grace: c.ApprovalGrace,
		Hold: c.ApprovalHold, CheckCallback: func(raw string) error { return webhook.CheckURL(toNodes, raw) },
		Announce: a.announceApproval,
	})
	a.desk = desk.New(a.db, a.log)
	a.logs = agentlog.New(agentlog.Options{DB: a.db, Events: events, Log: a.log})
	a.workflows = &workflow.Service{DB: a.db}
	a.bulk = bulk.New(bulk.Options{DB: a.db, Replica: a.replica, Executions: a.executions, Runs: a.workflows, Log: a.log, Pace: bulkPace})
	return a.face(ctx)
}

// bulkPace is the time between two items of a bulk job.
const bulkPace = 10 * time.Millisecond

// maxRedeliveries is how often in a row a call may be lost with a replica before it ends as replica_lost: a call that kills the server
// must not do so for ever.
const maxRedeliveries = 20

func (a *App) openBox(ctx context.Context) (*secret.Box, error) {
	key, warning, err := secret.LoadKey(ctx, secret.Config{Configured: a.config.SecretKey, DataDir: a.config.DataDir}, a.db)
	if err != nil {
		return nil, err
	}
	if warning != "" {
		a.log.Warn(warning)
	}
	return secret.NewBox(key)
}

func (a *App) face(ctx context.Context) error {
	c := a.config
	who, err := a.openAccess(ctx)
	if err != nil {
		return err
	}
	a.server = api.New(api.Options{ //nolint:contextcheck // handlers take the context of their request
		Executions: a.executions, Nodes: a.nodes, Webhooks: a.webhooks, Approvals: a.approvals, Hub: a.hub, Access: who, Audit: audit.NewReader(a.db), Views: &view.Service{DB: a.db}, Bulk: a.bulk, Workflows: a.workflows, Metrics: a.metrics(), Log: a.log, Now: a.db.Now,
		Check: a.check, Version: Version(), PublicURL: c.PublicURL, BodyLimit: int(c.BodyLimit), MaxTimeout: c.MaxTimeout, ExportLimit: c.ExportLimit,
		Desk:        a.desk,
		Logs:        a.logs,
		Memory:      &memory.Service{DB: a.db},
		CORSOrigins: c.CORSOrigins, ApprovalSecret: c.ApprovalWebhookSecret,
	})
	return nil
}

func (a *App) metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(a.executions.Collectors()...)
	r.MustRegister(a.webhooks.Collectors()...)
	r.MustRegister(a.notify.Collectors()...)
	r.MustRegister(a.traces.Collectors()...)
	for _, l := range a.loops() {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "agentfield_loop_last_success_timestamp_seconds", Help: "When a background loop last did its work.",
			ConstLabels: prometheus.Labels{"loop": l.Name},
		}, func() float64 { return float64(l.LastSuccess().UnixMilli()) / 1000 }))
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "agentfield_event_streams", Help: "Open event streams."},
		func() float64 { return float64(a.hub.Streams()) }))
	return r
}

func (a *App) loops() []*lease.Loop {
	loops := append([]*lease.Loop{a.replica.Loop()}, a.executions.Loops()...)
	loops = append(append(append(loops, a.approvals.Loops()...), a.notify.Loops()...), append(a.desk.Loops(), a.logs.Loops()...)...)
	return append(append(append(loops, a.webhooks.Loops()...), a.nodes.Loops()...), a.bulk.Loops()...)
}

var errLoopStuck = errors.New("a background loop has not succeeded for a while")

// check is readiness: the database answers and the heartbeat is not overdue.
func (a *App) check(ctx context.Context) error {
	if err := a.db.Ping(ctx); err != nil {
		return err
	}
	if time.Since(a.replica.Loop().LastSuccess()) > 3*a.replica.TTL() {
		return fmt.Errorf("heartbeat: %w", errLoopStuck)
	}
	return nil
}

// Start begins to work and to answer. It returns once requests are accepted.
func (a *App) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.config.Listen)
	if err != nil {
		a.replica.Leave(context.WithoutCancel(ctx))
		a.db.Close()
		return fmt.Errorf("listen on %s: %w", a.config.Listen, err)
	}
	a.listener = listener
	a.replica.Start()
	a.tail.Start()
	a.nodes.Start()
	a.webhooks.Start()
	a.notify.Start()
	a.traces.Start()
	a.executions.Start()
	a.approvals.Start()
	a.bulk.Start()
	a.desk.Start()
	a.logs.Start()
	go func() { a.failed <- a.server.Serve(listener) }()
	a.log.Info("listening on "+a.URL(), "version", Version())
	return nil
}

// URL is the address of the server with the port it really has.
func (a *App) URL() string { return "http://" + a.listener.Addr().String() }

// Wait receives when the server has stopped answering without being asked to.
func (a *App) Wait() <-chan error { return a.failed }

// Stop ends in order: not ready, no new work, running work finishes within ctx or goes back to the queue, then everything closes.
// Nothing that was accepted is lost.
func (a *App) Stop(ctx context.Context) error {
	a.log.Info("shutting down", "grace", a.config.ShutdownGrace)
	a.bulk.Stop()
	drain, cancel := context.WithTimeout(ctx, a.config.ShutdownGrace*3/4)
	a.executions.Drain(drain)
	cancel()
	a.hub.Close()
	err := a.server.Shutdown(ctx)
	a.webhooks.Stop(ctx)
	a.notify.Stop(ctx)
	a.approvals.Stop()
	a.desk.Stop()
	a.logs.Stop()
	a.executions.Stop()
	a.traces.Stop()
	a.nodes.Stop()
	a.tail.Stop()
	a.replica.Leave(context.WithoutCancel(ctx))
	a.db.Close()
	if err != nil {
		return fmt.Errorf("close the connections: %w", err)
	}
	return nil
}

// publicURL is the address that people are sent to.
func (a *App) publicURL() string {
	if a.config.PublicURL != "" {
		return a.config.PublicURL
	}
	if a.listener == nil {
		return "http://" + a.config.Listen
	}
	return a.URL()
}

// wake is another replica's hint.
func (a *App) wake() {
	a.executions.Wake()
	a.webhooks.Wake()
	a.notify.Wake()
	a.bulk.Wake()
}

// announceApproval tells the notifier and the endpoints that have subscribed, in the transaction that it speaks of.
func (a *App) announceApproval(ctx context.Context, tx *database.Tx, kind string, approval *models.Approval) error {
	if err := a.notify.Announce(ctx, tx, kind, approval); err != nil {
		return err
	}
	return a.webhooks.AnnounceApproval(ctx, tx, kind, approval, func() ([]byte, error) { return a.notify.Word(kind, approval) })
}

func (a *App) instanceLost(ctx context.Context, instance, reason string) {
	if err := a.executions.InstanceLost(ctx, instance, reason); err != nil {
		a.log.Error("cannot settle the work of a lost instance", "instance_id", instance, "error", err)
	}
}

func (a *App) nodeAvailable(node string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := a.executions.NodeAvailable(ctx, node); err != nil {
		a.log.Warn("cannot queue what was pending; the next sweep will", "node", node, "error", err)
	}
}

// Version is that of the build: a tag, or the revision it was made from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && info.Main.Version == "(devel)" {
			return "devel-" + s.Value[:min(len(s.Value), 12)]
		}
	}
	return info.Main.Version
}
