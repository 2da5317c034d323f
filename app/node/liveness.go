package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/agentfield/agentfield/app/database"
)

const (
	beatEvery    = 2 * time.Second  // a row is written at most that often for a heartbeat
	lastWords    = 10 * time.Second // heartbeats that were under way while the instance stopped change nothing
	promoteAfter = 2 * time.Minute  // an instance that sends bare heartbeats has started by then
	leaseSeconds = 300

	stoppedReason = "it was shut down"
	offlineReason = "it said that it is offline"
)

// Beat is the body of every form of heartbeat (wire.md 3.3); all of it is optional. Fields it does not name are ignored.
type Beat struct {
	Status          Word `json:"status"`           // POST …/heartbeat
	Phase           Word `json:"phase"`            // PATCH …/status
	LifecycleStatus Word `json:"lifecycle_status"` // POST …/lifecycle/status
	Version         Word `json:"version"`
	InstanceID      Word `json:"instance_id"` // the agent's own, or the one that its registration was answered with
}

// Farewell is the body of POST …/shutdown; all of it is optional.
type Farewell struct {
	Reason          Word `json:"reason"`
	Version         Word `json:"version"`
	InstanceID      Word `json:"instance_id"`
	ExpectedRestart Word `json:"expected_restart"`
}

// DecodeBeat reads the body of a heartbeat; an empty one is good.
func DecodeBeat(body []byte) (Beat, error) {
	var b Beat
	err := decodeOptional(body, &b)
	return b, err
}

// DecodeFarewell reads the body of a shutdown; an empty one is good.
func DecodeFarewell(body []byte) (Farewell, error) {
	var f Farewell
	err := decodeOptional(body, &f)
	return f, err
}

func decodeOptional(body []byte, into any) error {
	if strings.TrimSpace(string(body)) == "" {
		return nil
	}
	return decodeBody(body, into)
}

// HeartbeatReply answers POST …/heartbeat.
type HeartbeatReply struct {
	Success   bool   `json:"success"`
	Message   string `json:"message"`
	Timestamp string `json:"timestamp"`
}

// LeaseReply answers PATCH …/status and, with a message, POST …/shutdown.
type LeaseReply struct {
	LeaseSeconds     int    `json:"lease_seconds"`
	NextLeaseRenewal string `json:"next_lease_renewal"`
	Message          string `json:"message,omitempty"`
}

// Heartbeat takes POST …/heartbeat. A status word that nobody knows is still a sign of life.
func (s *Service) Heartbeat(ctx context.Context, nodeID string, b Beat, clientIP string) (HeartbeatReply, error) {
	word, _ := lifecycleWord(b.Status)
	if err := s.beat(ctx, nodeID, b.sender(clientIP), word); err != nil {
		return HeartbeatReply{}, err
	}
	return HeartbeatReply{Success: true, Message: "heartbeat received", Timestamp: stamp(s.db.NowMs())}, nil
}

// RenewLease takes PATCH …/status.
func (s *Service) RenewLease(ctx context.Context, nodeID string, b Beat, clientIP string) (LeaseReply, error) {
	word, ok := lifecycleWord(b.Phase)
	if !ok {
		return LeaseReply{}, invalid("phase", "unsupported phase: %s", shorten(cleanText(string(b.Phase))))
	}
	if err := s.beat(ctx, nodeID, b.sender(clientIP), word); err != nil {
		return LeaseReply{}, err
	}
	return s.leaseReply(), nil
}

// SetLifecycle takes POST …/lifecycle/status.
func (s *Service) SetLifecycle(ctx context.Context, nodeID string, b Beat, clientIP string) error {
	word, ok := lifecycleWord(b.LifecycleStatus)
	if !ok {
		return invalid("lifecycle_status", "lifecycle_status must be starting, ready, degraded or offline")
	}
	return s.beat(ctx, nodeID, b.sender(clientIP), word)
}

func lifecycleWord(w Word) (string, bool) {
	switch word := strings.ToLower(strings.TrimSpace(string(w))); word {
	case Starting, Ready, Degraded, Offline:
		return word, true
	}
	return "", false
}

// sender is what a report tells about the instance that sent it.
type sender struct{ key, version, ip string }

func (b Beat) sender(ip string) sender { return sender{string(b.InstanceID), string(b.Version), ip} }

// beat takes a sign of life with what the instance says about itself; an empty word says nothing.
func (s *Service) beat(ctx context.Context, nodeID string, from sender, word string) error {
	i, _, err := s.whoSent(ctx, nodeID, from)
	if err != nil || i == nil {
		return err
	}
	now := s.db.NowMs()
	lifecycle := i.lifecycleAfter(word, now)
	health, revived := i.healthAfter(lifecycle)
	if lifecycle == i.row.Lifecycle && health == i.row.Health {
		err = s.keepAlive(ctx, i, now)
	} else {
		err = s.writeStatus(ctx, i, lifecycle, health, now)
	}
	if err == nil && revived {
		s.o.OnAvailable(nodeID)
	}
	return err
}

// lifecycleAfter is what a heartbeat makes of the lifecycle.
func (i *Instance) lifecycleAfter(word string, now int64) string {
	row := i.row
	stopped := row.Lifecycle == Offline && row.HealthReason != nil && *row.HealthReason == stoppedReason && row.StoppedAt != nil
	switch {
	case stopped && now-*row.StoppedAt < lastWords.Milliseconds():
		return row.Lifecycle
	case word != "":
		return word
	case row.Lifecycle == Starting && now-row.RegisteredAt >= promoteAfter.Milliseconds():
		return Ready
	}
	return row.Lifecycle
}

// healthAfter believes a heartbeat once. When calls fail again with nothing but heartbeats in between, the address the agent gave is not
// the one at which it lives, and only an answer from there brings it back.
func (i *Instance) healthAfter(lifecycle string) (health string, revived bool) {
	if lifecycle == Offline {
		return Inactive, false
	}
	p := i.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	if i.row.Lifecycle != Offline && (p.verdict == Inactive || (p.verdict == "" && i.row.Health == Inactive)) {
		if p.vouched {
			return i.row.Health, false
		}
		p.vouched, revived = true, true
		p.misses, p.verdict, p.reason = 0, "", ""
	}
	revived = revived || i.row.Lifecycle == Offline
	if lifecycle == Degraded {
		return Degraded, revived
	}
	return Active, revived
}

// keepAlive writes the time, seldom.
func (s *Service) keepAlive(ctx context.Context, i *Instance, now int64) error {
	i.pulse.mu.Lock()
	recent := now-i.pulse.beatAt < beatEvery.Milliseconds()
	if !recent {
		i.pulse.beatAt = now
	}
	i.pulse.mu.Unlock()
	if recent {
		return nil
	}
	if err := s.writeBeat(ctx, i.ID, now, true); err != nil {
		return fmt.Errorf("write a heartbeat of node %s: %w", i.NodeID, err)
	}
	return nil
}

func (s *Service) writeBeat(ctx context.Context, instanceID string, now int64, heartbeat bool) error {
	return s.db.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE instances SET heartbeat_at = $2, heartbeats = heartbeats OR $3 WHERE id = $1 AND heartbeat_at <= $2",
			instanceID, now, heartbeat)
		return err
	})
}

func (s *Service) writeStatus(ctx context.Context, i *Instance, lifecycle, health string, now int64) error {
	var reason *string
	var stoppedAt *int64
	if health == Inactive {
		reason, stoppedAt = i.row.HealthReason, i.row.StoppedAt
	}
	if lifecycle == Offline {
		reason, stoppedAt = optional(offlineReason), &now
	}
	altered, err := s.alter(ctx, i.NodeID, func(tx *database.Tx) (*change, error) {
		rows, err := tx.Exec(ctx, `UPDATE instances SET lifecycle = $2, health = $3, health_reason = $4, stopped_at = $5, heartbeat_at = $6,
			heartbeats = $7 WHERE id = $1 AND lifecycle = $8`,
			i.ID, lifecycle, health, reason, stoppedAt, now, true, i.row.Lifecycle)
		if err != nil || rows == 0 {
			return nil, err
		}
		return &change{Change: "status", InstanceID: i.ID, BaseURL: i.BaseURL, Lifecycle: lifecycle, Health: health}, nil
	})
	if err != nil {
		return err
	}
	if !altered {
		s.invalidate(i.NodeID) // it stopped meanwhile, or said something newer
	}
	return nil
}

// Shutdown takes POST …/shutdown: the instance is out of rotation at once, and what was bound to it is lost.
func (s *Service) Shutdown(ctx context.Context, nodeID string, f Farewell, clientIP string) (LeaseReply, error) {
	i, siblings, err := s.whoSent(ctx, nodeID, sender{string(f.InstanceID), string(f.Version), clientIP})
	if err != nil {
		return LeaseReply{}, err
	}
	now := s.db.NowMs()
	reply := LeaseReply{NextLeaseRenewal: stamp(now), Message: "shutdown acknowledged"}
	if i == nil {
		for _, sibling := range siblings { // one of them goes; probes will find out which
			s.doubt(sibling)
		}
		return reply, nil
	}
	altered, err := s.alter(ctx, nodeID, func(tx *database.Tx) (*change, error) {
		rows, err := tx.Exec(ctx, `UPDATE instances SET lifecycle = 'offline', health = 'inactive', health_reason = $2, stopped_at = $3
			WHERE id = $1 AND (lifecycle <> 'offline' OR health_reason IS NULL OR health_reason <> $2)`, i.ID, stoppedReason, now)
		if err != nil || rows == 0 {
			return nil, err
		}
		return &change{
			Change: "stopped", InstanceID: i.ID, BaseURL: i.BaseURL, Lifecycle: Offline, Health: Inactive, Reason: cleanText(string(f.Reason)),
		}, nil
	})
	if err != nil {
		return LeaseReply{}, err
	}
	if altered {
		s.o.OnInstanceLost(context.WithoutCancel(ctx), i.ID, fmt.Sprintf("agent_shutdown: instance %s of node %s was shut down", i.ID, nodeID))
	}
	return reply, nil
}

// whoSent finds the instance that a report is about. Without one, siblings are those it may have been; a report of an instance that has
// been replaced is about none.
func (s *Service) whoSent(ctx context.Context, nodeID string, from sender) (found *Instance, siblings []*Instance, err error) {
	sh, e, err := s.entry(ctx, nodeID)
	if err != nil {
		return nil, nil, err
	}
	found, siblings = e.identify(from)
	if found == nil && s.mayBeStale(e) {
		if e, err = s.load(ctx, nodeID, sh, e); err != nil {
			return nil, nil, err
		}
		found, siblings = e.identify(from)
	}
	return found, siblings, nil
}

func (e *entry) identify(from sender) (found *Instance, siblings []*Instance) {
	left := e.instances
	if from.key != "" {
		for _, i := range left {
			if i.ID == from.key || (i.row.InstanceKey != nil && *i.row.InstanceKey == from.key) {
				return i, nil
			}
		}
		left = filter(left, func(i *Instance) bool { return i.row.InstanceKey == nil })
	}
	for _, narrows := range []func(*Instance) bool{
		func(i *Instance) bool { return i.Version == from.version || from.version == "" },
		func(i *Instance) bool { return i.row.Lifecycle != Offline },
		func(i *Instance) bool { return i.host() == from.ip },
	} {
		if narrowed := filter(left, narrows); len(left) > 1 && len(narrowed) > 0 {
			left = narrowed
		}
	}
	if len(left) == 1 {
		return left[0], nil
	}
	return nil, left
}

func filter(instances []*Instance, keep func(*Instance) bool) []*Instance {
	var kept []*Instance
	for _, i := range instances {
		if keep(i) {
			kept = append(kept, i)
		}
	}
	return kept
}

// stamp writes an instant as the API does: RFC 3339, UTC, milliseconds.
func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00") }
