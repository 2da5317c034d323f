package node

import (
	"context"
	"encoding/json"
	"strings"
	"time"
)

// Actions are how the protocol lets agents fetch work (wire.md 3.3, B44). This control plane calls its agents instead and hands out none,
// so that what is left of an acknowledgement or of a fetch is the sign of life.

const (
	claimAgainAfter = 5 // seconds until an agent that named no wait asks again
	maxClaimWait    = 300
)

// Acknowledgement is the body of POST …/actions/ack. Fields it does not name are ignored.
type Acknowledgement struct {
	ActionID   Word `json:"action_id"`
	Status     Word `json:"status"`
	Version    Word `json:"version"`
	InstanceID Word `json:"instance_id"`
}

// ActionClaim is the body of POST /actions/claim.
type ActionClaim struct {
	NodeID      string  `json:"node_id"`
	WaitSeconds float64 `json:"wait_seconds"`
	Version     Word    `json:"version"`
	InstanceID  Word    `json:"instance_id"`
}

// Actions answers a claim.
type Actions struct {
	Items            []json.RawMessage `json:"items"`
	LeaseSeconds     int               `json:"lease_seconds"`
	NextPollAfter    int               `json:"next_poll_after"` // seconds
	NextLeaseRenewal string            `json:"next_lease_renewal"`
}

// DecodeAcknowledgement reads the body; action_id and status are required.
func DecodeAcknowledgement(body []byte) (Acknowledgement, error) {
	var a Acknowledgement
	if err := decodeBody(body, &a); err != nil {
		return a, err
	}
	for field, value := range map[string]Word{"action_id": a.ActionID, "status": a.Status} {
		if strings.TrimSpace(string(value)) == "" {
			return a, invalid(field, "%s is required", field)
		}
	}
	return a, nil
}

// DecodeActionClaim reads the body; node_id is required.
func DecodeActionClaim(body []byte) (ActionClaim, error) {
	var c ActionClaim
	if err := decodeBody(body, &c); err != nil {
		return c, err
	}
	if err := checkName("node_id", c.NodeID); err != nil {
		return c, err
	}
	if c.WaitSeconds < 0 || c.WaitSeconds > maxClaimWait {
		return c, invalid("wait_seconds", "wait_seconds must lie between 0 and %d", maxClaimWait)
	}
	return c, nil
}

// Acknowledge takes the word of an agent that it is done with an action, and renews its lease.
func (s *Service) Acknowledge(ctx context.Context, nodeID string, a Acknowledgement, clientIP string) (LeaseReply, error) {
	return s.renew(ctx, nodeID, sender{string(a.InstanceID), string(a.Version), clientIP})
}

// ClaimActions answers an agent that fetches its work, and renews its lease.
func (s *Service) ClaimActions(ctx context.Context, c ActionClaim, clientIP string) (Actions, error) {
	lease, err := s.renew(ctx, c.NodeID, sender{string(c.InstanceID), string(c.Version), clientIP})
	if err != nil {
		return Actions{}, err
	}
	after := claimAgainAfter
	if c.WaitSeconds >= 1 {
		after = int(c.WaitSeconds)
	}
	return Actions{
		Items: []json.RawMessage{}, LeaseSeconds: lease.LeaseSeconds, NextPollAfter: after, NextLeaseRenewal: lease.NextLeaseRenewal,
	}, nil
}

func (s *Service) renew(ctx context.Context, nodeID string, from sender) (LeaseReply, error) {
	if err := s.beat(ctx, nodeID, from, ""); err != nil {
		return LeaseReply{}, err
	}
	return s.leaseReply(), nil
}

func (s *Service) leaseReply() LeaseReply {
	return LeaseReply{LeaseSeconds: leaseSeconds, NextLeaseRenewal: stamp(s.db.Now().Add(leaseSeconds * time.Second).UnixMilli())}
}
