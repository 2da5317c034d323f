package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/agentfield/agentfield/models"
)

// Instance is one address at which a node can be called.
type Instance struct {
	ID            string
	NodeID        string
	BaseURL       string
	InvocationURL string // takes every call instead of the paths of the functions; often empty
	Version       string
	Serverless    bool // the body of a call is the envelope of wire.md 4.3

	row   models.Instance // as it was read
	pulse *pulse          // what this process has seen of it, over all readings
}

func (s *Service) instanceOf(row models.Instance, deployment string) *Instance {
	i := &Instance{
		ID: row.ID, NodeID: row.NodeID, BaseURL: row.BaseURL, Version: row.Version, Serverless: deployment == Serverless,
		row: row, pulse: s.pulses.of(row.ID),
	}
	if row.InvocationURL != nil {
		i.InvocationURL = *row.InvocationURL
	}
	return i
}

// URL is where the instance takes a call of the function.
func (i *Instance) URL(f *Function) string {
	switch {
	case i.InvocationURL != "":
		return i.InvocationURL
	case i.Serverless:
		return i.BaseURL + "/execute"
	default:
		return i.BaseURL + f.Path()
	}
}

// CancelURL is where the instance is told that an execution was cancelled (wire.md 4.4).
func (i *Instance) CancelURL(executionID string) string {
	return i.BaseURL + "/_internal/executions/" + url.PathEscape(executionID) + "/cancel"
}

// host is the name or number under which it is reached.
func (i *Instance) host() string {
	u, err := url.Parse(i.BaseURL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// usable: nobody has said that it stops, and calls and probes have not condemned it.
func (i *Instance) usable() bool {
	return i.row.DrainingSince == nil && i.row.Lifecycle != Offline && i.health() != Inactive
}

// health is the stored one, or a newer verdict that is on its way to the store.
func (i *Instance) health() string {
	if i.Serverless {
		return Active
	}
	if verdict := i.pulse.verdictNow(); verdict != "" {
		return verdict
	}
	return i.row.Health
}

// Outcome is what a call says about the instance that took it.
type Outcome int

// The outcomes of a call.
const (
	OK          Outcome = iota // answered with success
	AgentError                 // answered with 4xx: the caller's mistake, and proof that the address answers
	Failed                     // answered with 5xx, or not in time: a reason to look, not a verdict
	Unreachable                // no connection, or it broke before an answer
	HungUp                     // we hung up before it could answer
)

// Claimed is an instance that was chosen for one call.
type Claimed struct {
	Instance *Instance
	service  *Service
	shelf    *shelf
	function string
	alone    bool // no other instance could have had the call
	released atomic.Bool
}

// Release gives the place back and says how it went. Only the first call counts.
func (c *Claimed) Release(o Outcome) {
	if c.released.Swap(true) {
		return
	}
	c.Instance.pulse.inFlight.Add(-1)
	c.shelf.inFlight.Add(-1)
	c.judge(o)
	switch o {
	case OK, AgentError:
		c.service.answered(c.Instance)
	case Failed:
		c.service.doubt(c.Instance)
	case Unreachable:
		c.service.missed(c.Instance, "calls do not reach it")
	case HungUp:
	}
}

// Claim chooses the usable instance with the least in flight that was not tried yet, equals in turn. ErrNoInstance when there is none,
// ErrCircuitOpen when breakers alone stand in the way, ErrUnknownNode when the node does not exist.
func (s *Service) Claim(nodeID, function string, tried map[string]bool) (*Claimed, error) {
	return s.claim(nodeID, function, tried, (*Instance).usable)
}

// ClaimAny is Claim, but when no instance is usable it takes one that is out of rotation: a sync call tries every known address, unless
// its breaker is open.
func (s *Service) ClaimAny(nodeID, function string, tried map[string]bool) (*Claimed, error) {
	for _, allowed := range []func(*Instance) bool{
		(*Instance).usable,
		func(i *Instance) bool { return i.row.DrainingSince == nil && i.row.Lifecycle != Offline },
		func(i *Instance) bool { return i.row.DrainingSince == nil },
	} {
		c, err := s.claim(nodeID, function, tried, allowed)
		if !errors.Is(err, ErrNoInstance) || errors.Is(err, ErrCircuitOpen) {
			return c, err
		}
	}
	return nil, fmt.Errorf("node %s: %w", nodeID, ErrNoInstance)
}

func (s *Service) claim(nodeID, function string, tried map[string]bool, allowed func(*Instance) bool) (*Claimed, error) {
	sh, e, err := s.entryNow(nodeID)
	if err != nil {
		return nil, err
	}
	sh.turn.Lock()
	defer sh.turn.Unlock()
	chosen, allowedOnes, now := -1, 0, s.db.NowMs()
	var least int64
	for n := range e.instances {
		at := (sh.next + n) % len(e.instances)
		i := e.instances[at]
		if tried[i.ID] || !allowed(i) {
			continue
		}
		allowedOnes++
		if !i.admits(function, now) {
			continue
		}
		if load := i.pulse.inFlight.Load(); chosen < 0 || load < least {
			chosen, least = at, load
		}
	}
	if chosen < 0 {
		cause := ErrNoInstance
		if allowedOnes > 0 {
			cause = ErrCircuitOpen
		}
		return nil, fmt.Errorf("node %s: %w", nodeID, cause)
	}
	sh.next = chosen + 1
	i := e.instances[chosen]
	i.enter(function, now)
	i.pulse.inFlight.Add(1)
	sh.inFlight.Add(1)
	return &Claimed{Instance: i, service: s, shelf: sh, function: function, alone: allowedOnes == 1 && len(tried) == 0}, nil
}

// Usable reports whether a call could be placed now. A node whose state cannot be read counts as usable: the claim will tell.
func (s *Service) Usable(nodeID string) bool {
	_, e, err := s.entryNow(nodeID)
	if err != nil {
		return !errors.Is(err, ErrUnknownNode)
	}
	return slices.ContainsFunc(e.instances, (*Instance).usable)
}

// Addresses lists the base URLs of one instance, or of all of a node when instanceID is nil; none for what is not registered.
func (s *Service) Addresses(ctx context.Context, nodeID string, instanceID *string) ([]string, error) {
	_, e, err := s.entry(ctx, nodeID)
	if errors.Is(err, ErrUnknownNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, i := range e.instances {
		if (instanceID == nil && i.row.Lifecycle != Offline) || (instanceID != nil && i.ID == *instanceID) {
			addresses = append(addresses, i.BaseURL)
		}
	}
	return addresses, nil
}
