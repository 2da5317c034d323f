// Package demo is a small company of agents to try a control plane with: they greet, triage tickets, research, read documents, ask people
// before they pay, fail, and take their time. They run in this process, each with a listener of its own, and reach each other only through the control plane, as
// agents on other machines would.
//
// The invariant: nobody needs anything else. No model, no network, no randomness; the same input gives the same answer, and documents
// are never fetched. The texts are made from templates and say nothing about the world.
package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/agentfield/agentfield/sdk/go/agent"
)

// Options of the agents. The zero value is right for a server on this machine.
type Options struct {
	// APIKey for the control plane, if it demands one.
	APIKey string
	// Logger of the agents' own doings. Default: none, so that a terminal stays readable.
	Logger *slog.Logger
	// Sleep waits instead of thinking and returns early with the cause of ctx. Default: real time.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Agents are the running agents.
type Agents struct {
	list   []*agent.Agent
	names  []string
	leave  context.CancelFunc
	served sync.WaitGroup
	ended  chan error // what each Serve returned
}

// company is what the functions share.
type company struct {
	sleep func(ctx context.Context, d time.Duration) error
}

// staff names the nodes and says which functions they have.
func (c company) staff() map[string]func(*agent.Agent) {
	return map[string]func(*agent.Agent){
		"hello-world":      c.hello,
		"support-agent":    c.support,
		"sentiment-agent":  c.sentiment,
		"escalation-agent": c.escalation,
		"research-agent":   c.research,
		"doc-processor":    c.documents,
		"analytics-agent":  c.analytics,
		"unreliable-agent": c.unreliable,
		"slow-agent":       c.slow,
		"claims-processor": c.claims,
	}
}

// Start starts all agents on free loopback ports and returns when the control plane knows each of them. If ctx ends first, or one of
// them is refused, none is left running.
func Start(ctx context.Context, serverURL string, options Options) (*Agents, error) {
	c := company{sleep: options.Sleep}
	if c.sleep == nil {
		c.sleep = sleep
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	life, leave := context.WithCancel(context.WithoutCancel(ctx))
	staff := c.staff()
	agents := &Agents{leave: leave, ended: make(chan error, len(staff))}
	for name, hire := range staff {
		config := agent.Config{
			NodeID: name, ServerURL: serverURL, APIKey: options.APIKey, Version: "1.0.0", Tags: []string{"demo"},
			StopTimeout: 3 * time.Second, Logger: options.Logger,
		}
		if err := agents.open(life, config, hire); err != nil {
			return nil, errors.Join(err, agents.Stop(ctx))
		}
		agents.names = append(agents.names, name)
	}
	slices.Sort(agents.names)
	if err := agents.ready(ctx); err != nil {
		return nil, errors.Join(err, agents.Stop(ctx))
	}
	return agents, nil
}

// open starts one agent. It listens on loopback under its own address whatever the environment says: there are many of us.
func (s *Agents) open(ctx context.Context, config agent.Config, hire func(*agent.Agent)) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config.PublicURL = "http://" + listener.Addr().String()
	a, err := agent.New(config)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	hire(a)
	s.list = append(s.list, a)
	s.served.Go(func() { s.ended <- a.Serve(ctx, listener) })
	return nil
}

func (s *Agents) ready(ctx context.Context) error {
	for _, a := range s.list {
		select {
		case <-a.Ready():
		case err := <-s.ended:
			return fmt.Errorf("a demo agent could not start: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the demo agents could not register: %w", context.Cause(ctx))
		}
	}
	return nil
}

// Nodes are the names of the agents, sorted.
func (s *Agents) Nodes() []string { return slices.Clone(s.names) }

// Stop lets the agents say goodbye and finish what they can within three seconds; the rest is cancelled. It returns early with ctx.
func (s *Agents) Stop(ctx context.Context) error {
	s.leave()
	gone := make(chan struct{})
	go func() {
		s.served.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		return fmt.Errorf("the demo agents did not stop in time: %w", context.Cause(ctx))
	}
	var failures error
	for {
		select {
		case err := <-s.ended:
			failures = errors.Join(failures, err)
		default:
			return failures
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
