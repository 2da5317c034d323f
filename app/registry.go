package app

import (
	"context"
	"errors"

	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/node"
)

// registry shows the nodes to the executions in the words that execution uses.
type registry struct{ nodes *node.Service }

func (r registry) Lookup(ctx context.Context, nodeID, name string) (execution.Function, error) {
	f, err := r.nodes.Lookup(ctx, nodeID, name)
	if err != nil {
		return execution.Function{}, err
	}
	return execution.Function{
		NodeID: f.NodeID, Name: f.Name, Kind: f.Kind, Limited: f.Limited, NodeDepth: f.NodeDepth, Depth: f.Depth, Idempotent: f.Idempotent,
		Validate: f.Validate, Address: f,
	}, nil
}

func (r registry) Claim(f execution.Function, tried map[string]bool, anyHealth bool) (execution.Instance, error) {
	claim := r.nodes.Claim
	if anyHealth {
		claim = r.nodes.ClaimAny
	}
	c, err := claim(f.NodeID, f.Name, tried)
	if errors.Is(err, node.ErrCircuitOpen) {
		return execution.Instance{}, execution.ErrCircuitOpen
	}
	if errors.Is(err, node.ErrNoInstance) || errors.Is(err, node.ErrUnknownNode) {
		return execution.Instance{}, execution.ErrNoInstance
	}
	if err != nil {
		return execution.Instance{}, err
	}
	return execution.Instance{
		ID: c.Instance.ID, URL: c.Instance.URL(f.Address.(*node.Function)), Serverless: c.Instance.Serverless,
		Release: func(reach execution.Reach) { c.Release(outcomes[reach]) },
	}, nil
}

var outcomes = map[execution.Reach]node.Outcome{
	execution.ReachedOK: node.OK, execution.ReachedRefused: node.AgentError, execution.ReachedFailed: node.Failed, execution.NotReached: node.Unreachable,
	execution.HungUp: node.HungUp,
}

func (r registry) Usable(nodeID string) bool { return r.nodes.Usable(nodeID) }

func (r registry) Addresses(ctx context.Context, nodeID string, instanceID *string) ([]string, error) {
	return r.nodes.Addresses(ctx, nodeID, instanceID)
}
