package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

	probed wish
	row    models.Instance // as it was read
	pulse  *pulse          // what this process has seen of it, over all readings
}

func (s *Service) instanceOf(row models.Instance, deployment string, probed wish) *Instance {
	i := &Instance{
		ID: row.ID, NodeID: row.NodeID, BaseURL: row.BaseURL, Version: row.Version, Serverless: deployment == Serverless,
		probed: probed, row: row, pulse: s.pulses.of(row.ID),
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

// Claim chooses a usable instance that was not tried yet. ErrNoInstance when there is none, ErrCircuitOpen when breakers alone stand in the
// way, ErrUnknownNode when the node does not exist.
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

// claim weighs two instances against each other: the one whose turn it is and one that chance picks. The one with less in flight gets
// the call, of equals the one whose turn it is. Asking two is nearly as good as asking all (the power of two choices), costs the same for
// a hundred instances as for two, and replicas that do not know of each other's calls do not all run to the same instance.
func (s *Service) claim(nodeID, function string, tried map[string]bool, allowed func(*Instance) bool) (*Claimed, error) {
	sh, e, err := s.entryNow(nodeID)
	if err != nil {
		return nil, err
	}
	sh.turn.Lock()
	defer sh.turn.Unlock()
	now := s.db.NowMs()
	c := choice{
		instances: e.instances, allowed: func(i *Instance) bool { return !tried[i.ID] && allowed(i) },
		admits: func(i *Instance) bool { return i.admits(function, now) },
	}
	first := c.from(sh.next, none)
	if first == none {
		cause := ErrNoInstance
		if len(c.resting) > 0 {
			cause = ErrCircuitOpen
		}
		return nil, fmt.Errorf("node %s: %w", nodeID, cause)
	}
	chosen := first
	second := c.from(rand.IntN(len(e.instances)), first) //nolint:gosec // no secret
	if second != none && e.instances[second].load() < e.instances[first].load() {
		chosen = second
	}
	sh.next = first + 1
	i := e.instances[chosen]
	i.enter(function, now)
	i.pulse.inFlight.Add(1)
	sh.inFlight.Add(1)
	alone := second == none && len(c.resting) == 0 && len(tried) == 0
	return &Claimed{Instance: i, service: s, shelf: sh, function: function, alone: alone}, nil
}

const none = -1

// choice looks for instances that may have a call.
type choice struct {
	instances       []*Instance
	allowed, admits func(*Instance) bool
	resting         map[int]bool // those seen on the way that only their breaker keeps from it
}

// from is the next that may have the call, from a place on and round about; never the one at except.
func (c *choice) from(start, except int) int {
	for n := range c.instances {
		at := (start + n) % len(c.instances)
		if at == except || !c.allowed(c.instances[at]) {
			continue
		}
		if c.admits(c.instances[at]) {
			return at
		}
		if c.resting == nil {
			c.resting = map[int]bool{}
		}
		c.resting[at] = true
	}
	return none
}

func (i *Instance) load() int64 { return i.pulse.inFlight.Load() }

// Usable reports whether a call could be placed now. A node whose state cannot be read counts as usable: the claim will tell.
func (s *Service) Usable(nodeID string) bool {
	_, e, err := s.entryNow(nodeID)
	if err != nil {
		return !errors.Is(err, ErrUnknownNode)
	}
	return slices.ContainsFunc(e.instances, (*Instance).usable)
}

// Gone reports whether all instances of the node have said that they stop.
func (s *Service) Gone(nodeID string) bool {
	_, e, err := s.entryNow(nodeID)
	stopped := func(i *Instance) bool { return i.row.Lifecycle == Offline }
	return err == nil && len(e.instances) > 0 && len(filter(e.instances, stopped)) == len(e.instances)
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
