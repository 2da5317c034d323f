package node

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

const (
	maxURL        = 2048
	maxCandidates = 64
	noPort        = "8001" // what agents listen on when they are not told
)

// addresses finds out where the registering instance is to be called. Nothing is probed: some agents begin to listen only after they
// have registered.
func (s *Service) addresses(r Registration, clientIP string) (base string, invocation *string, callback *CallbackDiscovery, err error) {
	if r.InvocationURL != "" {
		address, err := s.checkAddress(r.InvocationURL)
		if err != nil {
			return "", nil, nil, invalid("invocation_url", "invocation_url cannot be used: %v", err)
		}
		invocation = &address
	}
	switch {
	case r.BaseURL != "" && explicit(r.CallbackDiscovery):
		base, err = s.checkAddress(r.BaseURL)
		if err != nil {
			return "", nil, nil, invalid("base_url", "base_url cannot be used: %v", err)
		}
	case r.CallbackDiscovery != nil:
		callback, err = s.discover(r, clientIP)
		if err != nil {
			return "", nil, nil, err
		}
		base = callback.Resolved
	case r.DeploymentType == Serverless && invocation != nil:
		base = *invocation
	default:
		return "", nil, nil, invalid("base_url", "base_url is required: the address at which the control plane can call the agent")
	}
	return base, invocation, callback, nil
}

func explicit(c *CallbackDiscovery) bool {
	if c == nil {
		return true
	}
	switch strings.ToLower(strings.TrimSpace(c.Mode)) {
	case "", "manual", "explicit":
		return true
	}
	return false
}

// checkAddress returns the URL without a trailing slash.
func (s *Service) checkAddress(raw string) (string, error) {
	u, err := parseAddress(raw)
	if err != nil {
		return "", err
	}
	address := strings.TrimRight(u.String(), "/")
	if err := s.o.CheckURL(address); err != nil {
		return "", err
	}
	return address, nil
}

func parseAddress(raw string) (*url.URL, error) {
	raw = strings.TrimSpace(raw)
	if len(raw) > maxURL {
		return nil, fmt.Errorf("it is longer than %d bytes", maxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL", shorten(raw))
	}
	u.Scheme = strings.ToLower(u.Scheme)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q does not begin with http:// or https://", shorten(raw))
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host", shorten(raw))
	case u.User != nil:
		return nil, errors.New("a URL with a user name or password is refused")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, errors.New("a query or fragment is refused")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("%q is not a port", port)
		}
	}
	return u, nil
}

// discover takes the first usable address of those the agent proposes (wire.md 3.1, rule 2).
func (s *Service) discover(r Registration, clientIP string) (*CallbackDiscovery, error) {
	asked := r.CallbackDiscovery
	proposed := append([]string{r.BaseURL, asked.Preferred}, asked.Candidates[:min(len(asked.Candidates), maxCandidates)]...)
	port := portOf(proposed)
	if clientIP != "" {
		proposed = append(proposed, "http://"+net.JoinHostPort(clientIP, port))
	}
	var firstProblem error
	for _, candidate := range proposed {
		if strings.TrimSpace(candidate) == "" {
			continue
		}
		address, err := s.checkCandidate(candidate, port)
		if err == nil {
			return &CallbackDiscovery{
				Mode: "auto", Preferred: cleanText(asked.Preferred), Resolved: address, Candidates: cleanList(asked.Candidates),
				Tests: listOnly(asked.Tests), SubmittedAt: cleanText(asked.SubmittedAt),
			}, nil
		}
		if firstProblem == nil {
			firstProblem = err
		}
	}
	if firstProblem == nil {
		return nil, invalid("base_url", "base_url is required: callback_discovery proposes no address")
	}
	return nil, invalid("callback_discovery", "none of the proposed addresses can be used; the first one: %v", firstProblem)
}

// checkCandidate reduces a candidate to scheme://host:port. An address that only means "everywhere" leads nowhere.
func (s *Service) checkCandidate(candidate, port string) (string, error) {
	candidate = strings.TrimSpace(candidate)
	if !strings.Contains(candidate, "://") {
		candidate = "http://" + candidate
	}
	u, err := url.Parse(candidate)
	if err != nil {
		return "", fmt.Errorf("%q is not a URL", shorten(candidate))
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		return "", fmt.Errorf("%q is no address to call", shorten(candidate))
	}
	if u.Port() == "" && u.Scheme == "http" && u.Hostname() != "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return s.checkAddress((&url.URL{Scheme: u.Scheme, Host: u.Host, User: u.User}).String())
}

// portOf is the first port that the agent mentions.
func portOf(proposed []string) string {
	for _, candidate := range proposed {
		if !strings.Contains(candidate, "://") {
			candidate = "http://" + candidate
		}
		if u, err := url.Parse(strings.TrimSpace(candidate)); err == nil && u.Port() != "" {
			return u.Port()
		}
	}
	return noPort
}

func listOnly(raw []byte) []byte {
	text := compact(raw)
	if !strings.HasPrefix(text, "[") || len(text) > maxText {
		return nil
	}
	return []byte(text)
}
