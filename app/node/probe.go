package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/agentfield/agentfield/models"
)

const (
	probesAtOnce   = 32
	probeBody      = 64 << 10
	missedBeats    = 3
	graceAfterBoot = time.Second // some agents begin to listen only after they have registered
)

// probeClient never follows a redirect: the address itself has to answer.
func probeClient(c *http.Client) *http.Client {
	probe := *c
	probe.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &probe
}

// probeDue looks at the instances about which there is doubt. Every replica may do so; what comes of it is written once.
func (s *Service) probeDue(ctx context.Context) (bool, error) {
	due, next, err := s.dueProbes(ctx)
	if err != nil {
		return false, err
	}
	s.probeAll(ctx, due)
	for _, i := range due {
		if at := i.probeAgainAt(); at > 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if next > 0 {
		s.probeLoop.DueIn(time.Duration(next-s.db.NowMs()) * time.Millisecond)
	}
	return false, nil
}

// probeAgainAt is when an instance that has just been probed is to be probed again, 0 when there is no reason to.
func (i *Instance) probeAgainAt() int64 {
	i.pulse.mu.Lock()
	defer i.pulse.mu.Unlock()
	if i.pulse.nextAt == 0 && i.probed.every > 0 {
		return i.pulse.probedAt + i.probed.every.Milliseconds()
	}
	return i.pulse.nextAt
}

func (s *Service) probeAll(ctx context.Context, instances []*Instance) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, probesAtOnce)
	for _, i := range instances {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s.probe(ctx, i)
		})
	}
	wg.Wait()
}

// dueProbes lists what is to be probed now, and when the next one is due (ms; 0: none is planned).
func (s *Service) dueProbes(ctx context.Context) (due []*Instance, next int64, err error) {
	rows, err := s.livingInstances(ctx)
	if err != nil {
		return nil, 0, err
	}
	now := s.db.NowMs()
	for _, row := range rows {
		_, e, err := s.entry(ctx, row.NodeID)
		if err != nil {
			if errors.Is(err, ErrUnknownNode) {
				continue
			}
			return nil, 0, err
		}
		i := e.instance(row.ID)
		if i == nil {
			continue
		}
		at := s.probeAt(i, row, e.heartbeat, now)
		switch {
		case at == 0:
		case at <= now:
			due = append(due, i)
		case next == 0 || at < next:
			next = at
		}
	}
	return due, next, nil
}

func (s *Service) livingInstances(ctx context.Context) ([]models.Instance, error) {
	rows, err := s.db.Query(ctx, `SELECT i.id, i.node_id, i.heartbeats, i.heartbeat_at FROM instances i JOIN nodes n ON n.id = i.node_id
		WHERE i.lifecycle <> 'offline' AND n.deployment <> 'serverless'`)
	if err != nil {
		return nil, fmt.Errorf("read the instances to probe: %w", err)
	}
	defer rows.Close()
	var found []models.Instance
	for rows.Next() {
		var i models.Instance
		if err := rows.Scan(&i.ID, &i.NodeID, &i.Heartbeats, &i.HeartbeatAt); err != nil {
			return nil, fmt.Errorf("read an instance to probe: %w", err)
		}
		found = append(found, i)
	}
	return found, rows.Err()
}

// probeAt says when the instance is to be probed (ms), 0 for one that gives no reason to.
func (s *Service) probeAt(i *Instance, row models.Instance, interval time.Duration, now int64) int64 {
	if interval <= 0 {
		interval = s.o.HeartbeatInterval
	}
	silent := row.Heartbeats && now-row.HeartbeatAt > missedBeats*interval.Milliseconds()
	health := i.health()
	p := i.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	if !silent && !p.doubted && health != Inactive && health != Unknown {
		p.nextAt = 0
		if i.probed.every > 0 {
			return max(p.probedAt+i.probed.every.Milliseconds(), 1)
		}
		return 0
	}
	if p.nextAt == 0 {
		p.nextAt = now
		if health == Unknown {
			p.nextAt = max(now, i.row.RegisteredAt+graceAfterBoot.Milliseconds())
		}
	}
	return p.nextAt
}

// probe asks the address and takes note of the answer.
func (s *Service) probe(ctx context.Context, i *Instance) {
	problem := s.ask(ctx, i)
	if ctx.Err() != nil {
		return
	}
	i.pulse.probed(s.db.NowMs())
	if problem == "" {
		s.answered(i)
		s.noteLife(ctx, i)
		return
	}
	s.missed(i, problem)
	i.pulse.postpone(s.db.NowMs(), s.o.HealthCheckInterval)
}

// noteLife moves the time of the last sign of life, so that a silent instance that answers is left in peace for a while.
func (s *Service) noteLife(ctx context.Context, i *Instance) {
	if err := s.writeBeat(ctx, i.ID, s.db.NowMs(), false); err != nil {
		s.log.Warn("cannot note a sign of life", "node", i.NodeID, "instance", i.ID, "error", err)
	}
}

// ask returns why the instance cannot be called, or nothing. 200 at /health or /status is good. So is any other answer while none says 5xx:
// an agent need not serve either path, and one that answers can be called. A path that the node asked for itself is taken at its word.
func (s *Service) ask(ctx context.Context, i *Instance) (problem string) {
	if i.probed.path != "" {
		return s.askAt(ctx, i, i.probed.path)
	}
	answered := false
	for _, path := range []string{"/health", "/status"} {
		status, body, err := s.get(ctx, i.BaseURL+path)
		switch {
		case err != nil:
			if !answered {
				return "its address does not answer"
			}
		case status == http.StatusOK:
			return foreign(body, i.NodeID)
		case status < http.StatusInternalServerError:
			answered = true
		default:
			answered = true
			problem = fmt.Sprintf("%s answers %d", path, status)
		}
	}
	return problem
}

func (s *Service) askAt(ctx context.Context, i *Instance, path string) (problem string) {
	status, body, err := s.get(ctx, i.BaseURL+path)
	switch {
	case err != nil:
		return "its address does not answer"
	case status < http.StatusOK || status >= http.StatusMultipleChoices:
		return fmt.Sprintf("%s answers %d", path, status)
	}
	return foreign(body, i.NodeID)
}

// foreign notices that another agent has taken over the address.
func foreign(body []byte, nodeID string) string {
	var answer struct {
		NodeID string `json:"node_id"`
	}
	if json.Unmarshal(body, &answer) == nil && answer.NodeID != "" && answer.NodeID != nodeID {
		return "another agent answers at its address: " + shorten(cleanText(answer.NodeID))
	}
	return ""
}

func (s *Service) get(ctx context.Context, address string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.HealthCheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	answer, err := s.probes.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(answer.Body, probeBody))
	if err != nil {
		return 0, nil, err
	}
	return answer.StatusCode, body, nil
}
