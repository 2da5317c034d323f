// Package agent turns Go functions into an agent: a node that a control plane calls, watches and connects with other agents.
//
// A function takes JSON and gives JSON. The agent registers it, renews its lease, answers the control plane's calls, hands the
// execution's ids on to whatever the function calls, and stops without dropping work:
//
//	a, err := agent.New(agent.Config{NodeID: "hello-world"})
//	if err != nil {
//		log.Fatal(err)
//	}
//	agent.Handle(a, "greet", func(ctx context.Context, in Person) (Greeting, error) {
//		agent.Note(ctx, "somebody came by", "visit")
//		return Greeting{"Hello, " + in.Name + "!"}, nil
//	})
//	log.Fatal(a.Run(ctx))
//
// The invariant: within one process an execution runs once. Its function is not bound to the connection that asked for it, so the
// control plane may die in between; when it comes back and asks again, with the same execution id and a higher attempt, it joins the
// function that still runs, or gets the outcome that has been kept. Only a failure that the control plane has seen is run again.
//
// The package uses the standard library alone.
package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config describes an agent. Only NodeID is needed; what is left empty comes from the environment or has a default.
type Config struct {
	// NodeID is the name of the agent; callers write it before the dot of a target. It contains no dots itself.
	// Default: AGENT_NODE_ID.
	NodeID string
	// ServerURL is the address of the control plane. Default: AGENTFIELD_SERVER, else http://localhost:8080.
	ServerURL string
	// ListenAddr is where the agent listens, host:port. Default: AGENT_LISTEN_ADDR, else 127.0.0.1:0 (a free port of loopback).
	ListenAddr string
	// PublicURL is the address under which the control plane reaches the agent. Default: AGENT_PUBLIC_URL, else AGENT_CALLBACK_URL,
	// else the listening address; if that is all interfaces, the address of this machine on the way to the control plane.
	PublicURL string
	// APIKey is sent to the control plane as a bearer token. Default: AGENTFIELD_API_KEY, else AGENTFIELD_TOKEN.
	APIKey string
	// InternalToken, when set, is demanded from the control plane as a bearer token with every call of a function.
	// Default: AGENTFIELD_AUTHORIZATION_INTERNAL_TOKEN.
	InternalToken string
	// Version of the agent, free text.
	Version string
	// Tags of the agent, for discovery.
	Tags []string
	// MaxConcurrency bounds the functions that run at once; 0 is no bound. The control plane is told, so that work waits there. A
	// function that waits for a Call or a Pause does not count.
	MaxConcurrency int
	// MaxInputBytes bounds the input of one execution. Default: 32 MiB.
	MaxInputBytes int64
	// HeartbeatInterval is the time between two renewals of the lease. Default: 10 s.
	HeartbeatInterval time.Duration
	// StopTimeout is how long a stopping agent waits for what runs before it cancels it. Default: 30 s.
	StopTimeout time.Duration
	// Logger of the agent's own doings. Default: slog.Default().
	Logger *slog.Logger
}

func (c *Config) complete() {
	c.NodeID = first(c.NodeID, os.Getenv("AGENT_NODE_ID"))
	c.ServerURL = strings.TrimRight(first(c.ServerURL, os.Getenv("AGENTFIELD_SERVER"), "http://localhost:8080"), "/")
	c.ListenAddr = first(c.ListenAddr, os.Getenv("AGENT_LISTEN_ADDR"), "127.0.0.1:0")
	c.PublicURL = strings.TrimRight(first(c.PublicURL, os.Getenv("AGENT_PUBLIC_URL"), os.Getenv("AGENT_CALLBACK_URL")), "/")
	c.APIKey = first(c.APIKey, os.Getenv("AGENTFIELD_API_KEY"), os.Getenv("AGENTFIELD_TOKEN"))
	c.InternalToken = first(c.InternalToken, os.Getenv("AGENTFIELD_AUTHORIZATION_INTERNAL_TOKEN"))
	c.MaxInputBytes = first(c.MaxInputBytes, 32<<20)
	c.HeartbeatInterval = first(c.HeartbeatInterval, 10*time.Second)
	c.StopTimeout = first(c.StopTimeout, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func (c *Config) check() error {
	if c.NodeID == "" || len(c.NodeID) > 255 || strings.ContainsAny(c.NodeID, "./?#% ") {
		return fmt.Errorf("agent: NodeID %q: give a name of at most 255 characters without dots, slashes and spaces", c.NodeID)
	}
	for name, address := range map[string]string{"ServerURL": c.ServerURL, "PublicURL": c.PublicURL} {
		u, err := url.Parse(address)
		if address != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("agent: %s %q is not an http or https address", name, address)
		}
	}
	if c.MaxConcurrency < 0 || c.MaxInputBytes < 0 || c.HeartbeatInterval < 0 || c.StopTimeout < 0 {
		return errors.New("agent: limits and durations cannot be negative")
	}
	return nil
}

func first[T comparable](values ...T) T {
	var none T
	for _, v := range values {
		if v != none {
			return v
		}
	}
	return none
}

// Agent is a node: its functions and their executions. Register functions first, then Run it once.
type Agent struct {
	config     Config
	log        *slog.Logger
	plane      *plane
	instanceID string
	functions  map[string]*function // by "reasoner name" and "skill name"
	order      []*function

	ledger   ledger
	slots    slots
	counters counters
	started  time.Time

	ready   chan struct{}   // closed after the first registration
	url     string          // set by Serve before anything reads it
	work    crew            // functions and reports
	life    context.Context // of functions; ends when a stop has run out of patience
	abort   context.CancelCauseFunc
	outbox  context.Context // of reports
	discard context.CancelFunc
}

// ErrStopping is the cause with which a function's context ends when the agent stops and has waited for StopTimeout.
var ErrStopping = errors.New("the agent is stopping")

// ErrCancelled is the cause with which a function's context ends when its execution was cancelled.
var ErrCancelled = errors.New("cancelled by the control plane")

// New checks the configuration and returns an agent without functions. It connects to nothing.
func New(config Config) (*Agent, error) {
	config.complete()
	if err := config.check(); err != nil {
		return nil, err
	}
	a := &Agent{
		config: config, log: config.Logger.With("node_id", config.NodeID), instanceID: rand.Text(), functions: map[string]*function{},
		plane: newPlane(config.ServerURL, config.APIKey, config.NodeID), slots: newSlots(config.MaxConcurrency),
		ready: make(chan struct{}), started: time.Now(),
	}
	a.life, a.abort = context.WithCancelCause(context.Background())
	a.outbox, a.discard = context.WithCancel(context.Background())
	return a, nil
}

// Run listens on ListenAddr and serves until ctx ends, then stops gracefully: see Serve.
func (a *Agent) Run(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.config.ListenAddr)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return a.Serve(ctx, listener)
}

// Serve answers calls on the listener, registers with the control plane and stays registered: while that is away it tries again for
// ever. When ctx ends, the control plane is told, no new work is taken, and what runs has StopTimeout to finish.
//
// Errors: the listener failed, the control plane refused the first registration (4xx), or functions did not end although they were
// cancelled. A regular stop returns nil.
func (a *Agent) Serve(ctx context.Context, listener net.Listener) error {
	if a.url = a.config.PublicURL; a.url == "" {
		a.url = publicURL(listener.Addr(), a.config.ServerURL)
	}
	server := &http.Server{Handler: a.routes(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()

	presenceCtx, leave := context.WithCancel(ctx)
	defer leave()
	presence := make(chan error, 1)
	go func() { presence <- a.stayPresent(presenceCtx) }()

	select {
	case refused := <-presence: // nil when ctx ended
		err := a.stop(context.WithoutCancel(ctx), server)
		if broken := <-serving; !errors.Is(broken, http.ErrServerClosed) {
			err = errors.Join(broken, err)
		}
		return errors.Join(refused, err)
	case broken := <-serving:
		leave()
		return errors.Join(broken, <-presence, a.stop(context.WithoutCancel(ctx), server))
	}
}

// Ready is closed once the control plane knows the agent.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// URL is the address that the agent registered. It is known when Ready is closed.
func (a *Agent) URL() string { return a.url }

// stop ends the agent in the order that loses nothing: first nobody sends more, then what runs ends, then its outcomes are handed over.
func (a *Agent) stop(ctx context.Context, server *http.Server) error {
	a.sayGoodbye(ctx)
	defer a.plane.http.CloseIdleConnections()
	defer a.discard()
	if a.settle(ctx, server, a.config.StopTimeout) == nil {
		a.abort(ErrStopping)
		return server.Close()
	}
	a.abort(ErrStopping)
	a.discard()
	err := a.settle(ctx, server, 5*time.Second)
	_ = server.Close()
	if err != nil {
		return fmt.Errorf("agent: %d executions did not end although they were cancelled", a.counters.inFlight.Load())
	}
	return nil
}

// settle lets connections, functions and reports come to their end.
func (a *Agent) settle(ctx context.Context, server *http.Server, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return err
	}
	return a.work.wait(ctx)
}

// publicURL makes an address that others can use of the one we listen on.
func publicURL(listening net.Addr, server string) string {
	host, port, err := net.SplitHostPort(listening.String())
	if err != nil {
		return "http://" + listening.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = addressTowards(server)
	}
	return "http://" + net.JoinHostPort(host, port)
}

// addressTowards is this machine's address on the way to a server. A UDP "connection" asks the routing table and sends nothing.
func addressTowards(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return "127.0.0.1"
	}
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).Dial("udp", net.JoinHostPort(u.Hostname(), first(u.Port(), "80")))
	if err != nil {
		return "127.0.0.1"
	}
	defer func() { _ = conn.Close() }()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return host
}
