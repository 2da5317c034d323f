package api

import (
	"errors"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/views/layout"
	hooks "github.com/agentfield/agentfield/views/webhooks"
)

// hostRoutes show how the receivers of webhooks are doing and let operators pause and resume them.
func (s *Server) hostRoutes() []Route {
	return []Route{
		{"GET", "/webhooks/hosts", access.Read, s.listHosts},
		{"POST", "/webhooks/hosts/pause", access.Operate, s.pauseHost},
		{"POST", "/webhooks/hosts/resume", access.Operate, s.resumeHost},
	}
}

// hostJSON is a host on the wire.
type hostJSON struct {
	Host           string      `json:"host"`
	State          string      `json:"state"`
	Failures       int         `json:"failures_in_a_row"`
	FailingSince   *string     `json:"failing_since"`
	LastError      *string     `json:"last_error"`
	LastFailedAt   *string     `json:"last_failed_at"`
	LastAnsweredAt *string     `json:"last_answered_at"`
	PausedAt       *string     `json:"paused_at"`
	PausedBy       *string     `json:"paused_by"`
	NextProbeAt    *string     `json:"next_probe_at"`
	InFlight       int         `json:"in_flight"`
	Held           int         `json:"held"`
	Health         *healthJSON `json:"health"`
}

func asHostJSON(h webhook.HostStatus) hostJSON {
	return hostJSON{
		Host: h.Host, State: h.State, Failures: h.Failures, FailingSince: maybeMs(h.FailingSince), LastError: h.LastError,
		LastFailedAt: maybeMs(h.LastFailedAt), LastAnsweredAt: maybeMs(h.LastAnsweredAt), PausedAt: maybeMs(h.PausedAt), PausedBy: h.PausedBy,
		NextProbeAt: maybeMs(h.ProbeAt), InFlight: h.InFlight, Held: h.Held, Health: asHealthJSON(h.Health),
	}
}

// listHosts answers GET /webhooks/hosts.
func (s *Server) listHosts(c *fiber.Ctx) error { return s.hostsPage(c, fiber.StatusOK, "") }

// hostsPage lists the hosts; problem is what became of the last request.
func (s *Server) hostsPage(c *fiber.Ctx, status int, problem string) error {
	text := c.Query("q")
	if err := opaque("q", text); err != nil {
		return err
	}
	list, more, err := s.Webhooks.Hosts(c.UserContext(), text)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		hosts := make([]hostJSON, len(list))
		for i, h := range list {
			hosts[i] = asHostJSON(h)
		}
		return c.JSON(fiber.Map{"hosts": hosts, "more": more, "recovery_rate": s.Webhooks.Rate()})
	}
	p := hooks.HostsPage{
		Frame: s.hookFrame(c, "Webhook hosts", layout.Crumb{Label: "Hosts"}), More: more, Text: text, Rate: s.Webhooks.Rate(),
		Operate: principal(c).Can(access.Operate), Problem: problem, Said: hostDone[c.Query("done")],
	}
	for _, h := range list {
		p.Hosts = append(p.Hosts, hooks.Host{
			WebhookHost: h.WebhookHost, Health: healthView(h.Health), InFlight: h.InFlight, Held: h.Held, More: h.Held >= webhook.CountLimit,
		})
	}
	return page(c, status, hooks.Hosts(p), "hosts")
}

// hostDone says what an act has led to, after the redirect.
var hostDone = map[string]string{
	"paused":  "It gets nothing until somebody resumes it. What goes to it waits.",
	"resumed": "It gets what has waited. If nobody answers there, it is paused again.",
}

func (s *Server) pauseHost(c *fiber.Ctx) error {
	host, err := hostNamed(c)
	if err == nil {
		err = s.Webhooks.PauseHost(c.UserContext(), origin(c), host)
	}
	return s.changedHost(c, host, err, "paused")
}

func (s *Server) resumeHost(c *fiber.Ctx) error {
	host, err := hostNamed(c)
	if err == nil {
		err = s.Webhooks.ResumeHost(c.UserContext(), origin(c), host)
	}
	return s.changedHost(c, host, err, "resumed")
}

func hostNamed(c *fiber.Ctx) (string, error) {
	var r struct {
		Host string `json:"host"`
	}
	if err := formOrJSON(c, &r, func() { r.Host = c.FormValue("host") }); err != nil {
		return "", err
	}
	return r.Host, opaque("host", r.Host)
}

// changedHost answers an act upon a host.
func (s *Server) changedHost(c *fiber.Ctx, host string, err error, act string) error {
	switch {
	case errors.Is(err, webhook.ErrHostState) && !wantsJSON(c):
		return s.hostsPage(c, fiber.StatusConflict, "Somebody was faster: the host is in this state already.")
	case err != nil:
		return err
	case wantsJSON(c):
		return c.JSON(fiber.Map{"host": host, "done": act})
	}
	return seeOther(c, "/webhooks/hosts?done="+act)
}
