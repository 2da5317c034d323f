package agent

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"time"
)

// registration is what the control plane is told about the agent.
type registration struct {
	ID            string            `json:"id"`
	BaseURL       string            `json:"base_url"`
	Version       string            `json:"version"`
	InstanceID    string            `json:"instance_id"`
	Deployment    string            `json:"deployment_type"`
	Reasoners     []registeredFunc  `json:"reasoners"`
	Skills        []registeredFunc  `json:"skills"`
	Communication map[string]any    `json:"communication_config"`
	Callback      map[string]string `json:"callback_discovery"`
	Metadata      map[string]any    `json:"metadata"`
	Tags          []string          `json:"proposed_tags"`
}

type registeredFunc struct {
	ID           string          `json:"id"`
	Description  string          `json:"description,omitempty"`
	InputSchema  json.RawMessage `json:"input_schema,omitempty"`
	OutputSchema json.RawMessage `json:"output_schema,omitempty"`
	Tags         []string        `json:"tags"`
	Idempotent   bool            `json:"idempotent,omitempty"`
}

func (a *Agent) registration() registration {
	reg := registration{
		ID: a.config.NodeID, BaseURL: a.url, Version: a.config.Version, InstanceID: a.instanceID, Deployment: "long_running",
		Reasoners: []registeredFunc{}, Skills: []registeredFunc{},
		Communication: map[string]any{"protocols": []string{"http"}, "heartbeat_interval": a.config.HeartbeatInterval.String()},
		Callback:      map[string]string{"mode": "explicit", "preferred": a.url},
		Tags:          notNil(a.config.Tags),
	}
	descriptions := map[string]string{}
	for _, f := range a.order {
		entry := registeredFunc{ID: f.name, Description: f.description, InputSchema: f.input, OutputSchema: f.output, Tags: notNil(f.tags), Idempotent: f.idempotent}
		if f.kind == "skill" {
			reg.Skills = append(reg.Skills, entry)
		} else {
			reg.Reasoners = append(reg.Reasoners, entry)
		}
		if f.description != "" {
			descriptions[f.name] = f.description
		}
	}
	custom := map[string]any{"descriptions": descriptions}
	if a.config.MaxConcurrency > 0 {
		custom["max_concurrency"] = a.config.MaxConcurrency
	}
	reg.Metadata = map[string]any{"sdk": map[string]string{"language": "go", "runtime": runtime.Version()}, "custom": custom}
	return reg
}

func notNil(words []string) []string {
	if words == nil {
		return []string{}
	}
	return words
}

// stayPresent keeps the control plane aware of the agent until ctx ends. It gives up only when the first registration is refused.
func (a *Agent) stayPresent(ctx context.Context) error {
	known := false
	for ctx.Err() == nil {
		if err := a.register(ctx, known); err != nil {
			if ctx.Err() == nil {
				return err
			}
			break
		}
		if !known {
			known = true
			close(a.ready)
		}
		a.renewUntilLost(ctx)
	}
	return nil
}

// register tries until it succeeds or ctx ends. A first registration that is refused for good is an error; a later one is tried again,
// since the agent was welcome before.
func (a *Agent) register(ctx context.Context, known bool) error {
	body := a.registration()
	for failures := 1; ; failures++ {
		var answer struct {
			Status string `json:"status"`
			Token  string `json:"node_token"`
		}
		err := a.plane.send(ctx, shortTimeout, http.MethodPost, "/api/v1/nodes/register", nil, body, &answer)
		if err == nil {
			a.plane.token.Store(&answer.Token)
			a.log.Info("registered", "server", a.plane.url, "url", a.url, "functions", len(a.order), "status", answer.Status)
			return nil
		}
		if !known && refused(err) {
			return err
		}
		if failures == 1 && ctx.Err() == nil {
			a.log.Warn("cannot register; trying again until it works", "server", a.plane.url, "error", err)
		}
		if err := a.plane.rest(ctx, failures, err); err != nil {
			return err
		}
	}
}

// refused: the control plane understood and said no. 404 is not among them: something else may answer while it starts.
func refused(err error) bool {
	var answer *planeError
	return errors.As(err, &answer) && answer.Status >= 400 && answer.Status < 500 && answer.Status != http.StatusNotFound && !passing(err)
}

// renewUntilLost renews the lease until the control plane does not know the agent any more or cannot be reached: in both cases it may
// have lost what it knew, and registering again is right.
func (a *Agent) renewUntilLost(ctx context.Context) {
	for {
		lease, err := a.renew(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.log.Warn("the lease was not renewed; registering again", "error", err)
			}
			return
		}
		every := a.config.HeartbeatInterval
		if lease > 0 {
			every = min(every, lease/3)
		}
		if sleep(ctx, every-rand.N(every/10+1)) != nil {
			return
		}
	}
}

func (a *Agent) renew(ctx context.Context) (lease time.Duration, err error) {
	var answer struct {
		Seconds float64 `json:"lease_seconds"`
	}
	body := map[string]any{"phase": "ready", "version": a.config.Version, "instance_id": a.instanceID}
	err = a.plane.send(ctx, shortTimeout, http.MethodPatch, a.nodePath("/status"), nil, body, &answer)
	return time.Duration(answer.Seconds * float64(time.Second)), err
}

// sayGoodbye takes the agent out of rotation before it stops to listen. If nobody hears it, failed calls will tell the same.
func (a *Agent) sayGoodbye(ctx context.Context) {
	select {
	case <-a.ready:
	default:
		return // never registered
	}
	body := map[string]any{"reason": "shutdown", "version": a.config.Version, "instance_id": a.instanceID}
	if err := a.plane.send(ctx, 5*time.Second, http.MethodPost, a.nodePath("/shutdown"), nil, body, nil); err != nil {
		a.log.Warn("the control plane was not told of the stop", "error", err)
	}
}

func (a *Agent) nodePath(verb string) string {
	return "/api/v1/nodes/" + url.PathEscape(a.config.NodeID) + verb
}
