package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	discoverTimeout = 10 * time.Second
	maxDiscovery    = 4 << 20
)

// DiscoveryError says that a serverless agent could not be asked what it can do. It goes back to whoever registers it.
type DiscoveryError struct{ Reason string }

func (e *DiscoveryError) Error() string { return e.Reason }

// ServerlessAgent answers POST /nodes/register-serverless.
type ServerlessAgent struct {
	Success   bool            `json:"success"`
	Message   string          `json:"message"`
	Node      ServerlessShort `json:"node"`
	NodeToken string          `json:"node_token"`
}

// ServerlessShort is what was registered.
type ServerlessShort struct {
	ID             string `json:"id"`
	Version        string `json:"version"`
	DeploymentType string `json:"deployment_type"`
	InvocationURL  string `json:"invocation_url"`
	ReasonersCount int    `json:"reasoners_count"`
	SkillsCount    int    `json:"skills_count"`
}

// RegisterServerless asks the agent at an address what it can do and registers it (wire.md 3.2). The address comes from somebody else, so
// only this machine and the hosts that the operator lists are asked. Errors: InvalidError, DiscoveryError, and those of Register.
func (s *Service) RegisterServerless(ctx context.Context, invocationURL, token, clientIP string) (*ServerlessAgent, error) {
	address, err := s.discoverable(invocationURL)
	if err != nil {
		return nil, err
	}
	found, err := s.askServerless(ctx, address)
	if err != nil {
		return nil, err
	}
	r := Registration{
		ID: found.NodeID, Version: found.Version, TeamID: "default", DeploymentType: Serverless, BaseURL: address, InvocationURL: address + "/execute",
		Reasoners: found.Reasoners, Skills: found.Skills, LifecycleStatus: Ready, NodeToken: token,
		Metadata: mustJSON(map[string]any{"custom": map[string]any{"serverless": true, "discovery_url": address + "/discover"}}),
	}
	done, err := s.Register(ctx, r, clientIP)
	if invalid, ok := errors.AsType[*InvalidError](err); ok { // what the agent said, not what the caller sent
		return nil, &DiscoveryError{"its answer cannot be used: " + invalid.Message}
	}
	if err != nil {
		return nil, err
	}
	return &ServerlessAgent{
		Success: true, Message: "Serverless agent registered successfully", NodeToken: done.NodeToken,
		Node: ServerlessShort{
			ID: done.NodeID, Version: r.Version, DeploymentType: Serverless, InvocationURL: r.InvocationURL,
			ReasonersCount: len(r.Reasoners), SkillsCount: len(r.Skills),
		},
	}, nil
}

// discoverable returns the address without a trailing slash. "Everywhere" means this machine.
func (s *Service) discoverable(raw string) (string, error) {
	u, err := parseAddress(raw)
	if err != nil {
		return "", invalid("invocation_url", "%v", err)
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		u.Host = strings.TrimSuffix("localhost:"+u.Port(), ":")
	}
	if !ofThisMachine(u) && !s.o.MayDiscover(u) {
		return "", invalid("invocation_url", "host %s is not allowed: list it in AGENTFIELD_SERVERLESS_ALLOWED_HOSTS", shorten(u.Hostname()))
	}
	address, err := s.checkAddress(u.String())
	if err != nil {
		return "", invalid("invocation_url", "%v", err)
	}
	return address, nil
}

func ofThisMachine(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return strings.EqualFold(u.Hostname(), "localhost") || ip != nil && ip.IsLoopback()
}

// discovered is what a serverless agent says about itself.
type discovered struct {
	NodeID    string          `json:"node_id"`
	Version   string          `json:"version"`
	Reasoners []FunctionEntry `json:"reasoners"`
	Skills    []FunctionEntry `json:"skills"`
}

// askServerless follows no redirect: the address itself has to answer.
func (s *Service) askServerless(ctx context.Context, address string) (discovered, error) {
	ctx, cancel := context.WithTimeout(ctx, discoverTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/discover", nil)
	if err != nil {
		return discovered{}, &DiscoveryError{"the address cannot be asked"}
	}
	request.Header.Set("Accept", "application/json")
	response, err := s.probes.Do(request)
	if err != nil {
		s.log.Info("a serverless agent cannot be asked what it can do", "address", address, "error", err)
		return discovered{}, &DiscoveryError{"GET " + address + "/discover got no answer"}
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return discovered{}, &DiscoveryError{fmt.Sprintf("GET %s/discover answered %d", address, response.StatusCode)}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDiscovery+1))
	if err != nil || len(body) > maxDiscovery {
		return discovered{}, &DiscoveryError{"the answer to GET " + address + "/discover is broken off or too large"}
	}
	var found discovered
	if err := json.Unmarshal(body, &found); err != nil || strings.TrimSpace(found.NodeID) == "" {
		return discovered{}, &DiscoveryError{"the answer to GET " + address + "/discover is no JSON object with a node_id"}
	}
	return found, nil
}
