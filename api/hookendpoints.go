package api

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/layout"
	hooks "github.com/agentfield/agentfield/views/webhooks"
)

// endpointRoutes look after the addresses that are told of events over all executions.
func (s *Server) endpointRoutes() []Route {
	return []Route{
		{"GET", "/webhooks/endpoints", access.Read, s.listEndpoints},
		{"POST", "/webhooks/endpoints", access.Operate, s.createEndpoint},
		{"GET", "/webhooks/endpoints/:endpoint", access.Read, s.showEndpoint},
		{"POST", "/webhooks/endpoints/:endpoint", access.Operate, s.changeEndpoint},
		{"POST", "/webhooks/endpoints/:endpoint/test", access.Operate, s.testEndpoint},
		{"POST", "/webhooks/endpoints/:endpoint/rotate", access.Operate, s.rotateEndpoint},
		{"POST", "/webhooks/endpoints/:endpoint/retire", access.Operate, s.retireSecret},
		{"POST", "/webhooks/endpoints/:endpoint/delete", access.Operate, s.deleteEndpoint},
	}
}

// endpointJSON is an endpoint on the wire; the secret is in the answer that made it, and nowhere else.
type endpointJSON struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	URL       string      `json:"url"`
	Events    []string    `json:"events"`
	Headers   []string    `json:"headers"`
	Enabled   bool        `json:"enabled"`
	CreatedBy string      `json:"created_by"`
	CreatedAt string      `json:"created_at"`
	UpdatedAt string      `json:"updated_at"`
	RotatedAt *string     `json:"rotated_at"`
	OldUntil  *string     `json:"old_secret_until"`
	Health    *healthJSON `json:"health,omitempty"`
	Secret    string      `json:"secret,omitempty"`
}

type healthJSON struct {
	Deliveries      int     `json:"deliveries"` // looked at
	SuccessPercent  int     `json:"success_percent"`
	P50Ms           int64   `json:"p50_ms"`
	P95Ms           int64   `json:"p95_ms"`
	LastDeliveredAt *string `json:"last_delivered_at"`
	LastError       string  `json:"last_error,omitempty"`
}

func (s *Server) asEndpointJSON(e *models.WebhookEndpoint) (endpointJSON, error) {
	names, err := webhook.HeaderNames(e)
	var until *string
	if e.Overlaps(s.Now().UnixMilli()) {
		until = maybeMs(e.OldSecretUntil)
	}
	return endpointJSON{
		ID: e.ID, Name: e.Name, URL: e.URL, Events: strings.Fields(e.Events), Headers: append([]string{}, names...), Enabled: e.Enabled,
		CreatedBy: e.CreatedBy, CreatedAt: formatMs(e.CreatedAt), UpdatedAt: formatMs(e.UpdatedAt), RotatedAt: maybeMs(e.RotatedAt), OldUntil: until,
	}, err
}

func asHealthJSON(h webhook.Health) *healthJSON {
	return &healthJSON{
		Deliveries: h.Of, SuccessPercent: h.Rate(), P50Ms: h.P50, P95Ms: h.P95, LastDeliveredAt: maybeMs(h.LastDelivered), LastError: h.LastError,
	}
}

func healthView(h webhook.Health) hooks.Health {
	return hooks.Health{Of: h.Of, Rate: h.Rate(), P50: h.P50, P95: h.P95, LastDelivered: h.LastDelivered, LastError: h.LastError, LastErrorAt: h.LastErrorAt}
}

// endpointRequest is an endpoint as somebody wants it, or what is to be different about it.
type endpointRequest struct {
	Name    *string           `json:"name"`
	URL     *string           `json:"url"`
	Events  []string          `json:"events"`
	Headers map[string]string `json:"headers"`
	Enabled *bool             `json:"enabled"`
	Secret  string            `json:"secret"`
}

func readEndpoint(c *fiber.Ctx) (endpointRequest, error) {
	var r endpointRequest
	if wantsJSON(c) {
		return r, bind(c, &r, false)
	}
	if enabled := c.FormValue("enabled"); enabled != "" {
		on := enabled == "true"
		r.Enabled = &on
		return r, nil
	}
	name, address := typed(c.FormValue("name")), strings.ToValidUTF8(c.FormValue("url"), "")
	r.Name, r.URL, r.Secret, r.Events = &name, &address, c.FormValue("secret"), []string{}
	for _, event := range c.Context().PostArgs().PeekMulti("events") {
		r.Events = append(r.Events, string(event))
	}
	return r, nil
}

func (r endpointRequest) form() hooks.EndpointForm {
	f := hooks.EndpointForm{Events: r.Events}
	if r.Name != nil {
		f.Name = *r.Name
	}
	if r.URL != nil {
		f.URL = *r.URL
	}
	return f
}

// listEndpoints answers GET /webhooks/endpoints.
func (s *Server) listEndpoints(c *fiber.Ctx) error {
	if !wantsJSON(c) {
		deleted := ""
		if c.Query("done") == "deleted" {
			deleted = "The endpoint is deleted. The record of what was sent stays."
		}
		return s.endpointsPage(c, fiber.StatusOK, hooks.EndpointForm{Events: []string{webhook.EventCompleted, webhook.EventFailed}}, "", deleted)
	}
	all, err := s.Webhooks.Endpoints(c.UserContext())
	if err != nil {
		return err
	}
	list := make([]endpointJSON, len(all))
	for i, e := range all {
		if list[i], err = s.asEndpointJSON(e); err != nil {
			return err
		}
	}
	return c.JSON(fiber.Map{"endpoints": list, "event_types": webhook.EventTypes()})
}

func (s *Server) endpointsPage(c *fiber.Ctx, status int, form hooks.EndpointForm, problem, done string) error {
	all, err := s.Webhooks.Endpoints(c.UserContext())
	if err != nil {
		return err
	}
	p := hooks.EndpointsPage{
		Frame: s.hookFrame(c, "Webhook endpoints", layout.Crumb{Label: "Endpoints"}), Types: hooks.EventTypes(webhook.EventTypes()), Form: form,
		Problem: problem, Said: done, Operate: principal(c).Can(access.Operate),
	}
	for _, e := range all {
		view, err := s.endpointView(c, e)
		if err != nil {
			return err
		}
		p.Endpoints = append(p.Endpoints, view)
	}
	return page(c, status, hooks.Endpoints(p), "endpoints")
}

func (s *Server) hookFrame(c *fiber.Ctx, title string, crumbs ...layout.Crumb) layout.Page {
	frame := s.frame(c, title, "webhooks", append([]layout.Crumb{{Label: "Webhooks", Href: "/webhooks"}}, crumbs...)...)
	frame.Assets = []string{"webhooks.css"}
	return frame
}

func (s *Server) endpointView(c *fiber.Ctx, e *models.WebhookEndpoint) (hooks.Endpoint, error) {
	health, err := s.Webhooks.HealthOf(c.UserContext(), webhook.Filter{Endpoint: e.ID})
	if err != nil {
		return hooks.Endpoint{}, err
	}
	names, err := webhook.HeaderNames(e)
	return hooks.Endpoint{WebhookEndpoint: e, Headers: names, Health: healthView(health)}, err
}

// createEndpoint subscribes an address and shows its secret this once.
func (s *Server) createEndpoint(c *fiber.Ctx) error {
	r, err := readEndpoint(c)
	if err != nil {
		return err
	}
	want := webhook.Subscription{Events: r.Events, Secret: r.Secret, Headers: r.Headers, Off: r.Enabled != nil && !*r.Enabled}
	if r.Name != nil {
		want.Name = *r.Name
	}
	if r.URL != nil {
		want.URL = *r.URL
	}
	e, secret, err := s.Webhooks.CreateEndpoint(c.UserContext(), origin(c), want)
	switch {
	case err != nil && wantsJSON(c):
		return err
	case problemOf(err) != "":
		return s.endpointsPage(c, statusOf(err), r.form(), problemOf(err), "")
	case err != nil:
		return err
	case wantsJSON(c):
		made, err := s.asEndpointJSON(e)
		if err != nil {
			return err
		}
		made.Secret = secret
		return c.Status(fiber.StatusCreated).JSON(made)
	}
	return s.endpointPage(c, fiber.StatusCreated, e, hooks.EndpointPage{Secret: secret})
}

// problemOf is what is wrong with what was asked for, as a sentence for a form; empty when that is not the trouble.
func problemOf(err error) string {
	switch {
	case errors.Is(err, webhook.ErrInvalid):
		return sentence(err, webhook.ErrInvalid)
	case errors.Is(err, webhook.ErrManyEndpoints):
		return webhook.ErrManyEndpoints.Error()
	}
	return ""
}

func statusOf(err error) int {
	if errors.Is(err, webhook.ErrManyEndpoints) {
		return fiber.StatusConflict
	}
	return fiber.StatusBadRequest
}

// showEndpoint answers GET /webhooks/endpoints/{endpoint}.
func (s *Server) showEndpoint(c *fiber.Ctx) error {
	e, err := s.Webhooks.Endpoint(c.UserContext(), c.Params("endpoint"))
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return s.endpointPage(c, fiber.StatusOK, e, hooks.EndpointPage{Said: endpointDone[c.Query("done")]})
	}
	health, err := s.Webhooks.HealthOf(c.UserContext(), webhook.Filter{Endpoint: e.ID})
	if err != nil {
		return err
	}
	o, err := s.asEndpointJSON(e)
	o.Health = asHealthJSON(health)
	if err != nil {
		return err
	}
	return c.JSON(o)
}

// endpointDone says what an act has led to, after the redirect.
var endpointDone = map[string]string{
	"changed": "The endpoint is changed.", "enabled": "It is told of events again.",
	"disabled": "Nothing new is queued for it. What is queued is still sent.", "retired": "The old secret signs no more.",
}

func (s *Server) endpointPage(c *fiber.Ctx, status int, e *models.WebhookEndpoint, p hooks.EndpointPage) error {
	var err error
	if p.Endpoint, err = s.endpointView(c, e); err != nil {
		return err
	}
	recent, err := s.Webhooks.List(c.UserContext(), webhook.Filter{Endpoint: e.ID, Limit: 8})
	if err != nil {
		return err
	}
	p.Frame = s.hookFrame(c, e.Name, layout.Crumb{Label: "Endpoints", Href: "/webhooks/endpoints"}, layout.Crumb{Label: e.Name})
	p.Types, p.Recent, p.Operate = hooks.EventTypes(webhook.EventTypes()), recent.Rows, principal(c).Can(access.Operate)
	if p.Problem == "" {
		p.Form = hooks.EndpointForm{Name: e.Name, URL: e.URL, Events: strings.Fields(e.Events)}
	}
	return page(c, status, hooks.EndpointShow(p), "endpoint")
}

// changeEndpoint changes what is named of it, or switches it on or off.
func (s *Server) changeEndpoint(c *fiber.Ctx) error {
	r, err := readEndpoint(c)
	if err != nil {
		return err
	}
	e, err := s.Webhooks.ChangeEndpoint(c.UserContext(), origin(c), c.Params("endpoint"), webhook.EndpointChange{
		Name: r.Name, URL: r.URL, Events: r.Events, Headers: r.Headers, Enabled: r.Enabled,
	})
	switch {
	case err != nil && wantsJSON(c):
		return err
	case problemOf(err) != "":
		before, failed := s.Webhooks.Endpoint(c.UserContext(), c.Params("endpoint"))
		if failed != nil {
			return failed
		}
		return s.endpointPage(c, statusOf(err), before, hooks.EndpointPage{Problem: problemOf(err), Form: r.form()})
	case err != nil:
		return err
	case wantsJSON(c):
		o, err := s.asEndpointJSON(e)
		if err != nil {
			return err
		}
		return c.JSON(o)
	}
	done := "changed"
	switch {
	case r.Enabled != nil && *r.Enabled:
		done = "enabled"
	case r.Enabled != nil:
		done = "disabled"
	}
	return seeOther(c, "/webhooks/endpoints/"+url.PathEscape(e.ID)+"?done="+done)
}

// testEndpoint sends a test event and leads to its delivery.
func (s *Server) testEndpoint(c *fiber.Ctx) error {
	id, err := s.Webhooks.TestEndpoint(c.UserContext(), origin(c), c.Params("endpoint"))
	switch {
	case err != nil:
		return err
	case wantsJSON(c):
		return c.Status(fiber.StatusAccepted).JSON(fiber.Map{"delivery_id": id})
	}
	return seeOther(c, "/webhooks/"+url.PathEscape(id)+"?done=test")
}

// rotateEndpoint gives an endpoint another secret and shows it this once.
func (s *Server) rotateEndpoint(c *fiber.Ctx) error {
	r := struct {
		Secret  string `json:"secret"`
		Seconds *int64 `json:"overlap_seconds"`
	}{}
	if wantsJSON(c) {
		if len(c.Body()) > 0 {
			if err := bind(c, &r, false); err != nil {
				return err
			}
		}
	} else if seconds, err := strconv.ParseInt(c.FormValue("overlap_seconds"), 10, 64); err == nil {
		r.Secret, r.Seconds = c.FormValue("secret"), &seconds
	}
	overlap := webhook.DefaultOverlap
	if r.Seconds != nil {
		overlap = time.Duration(min(max(*r.Seconds, -1), int64(webhook.MaxOverlap/time.Second)+1)) * time.Second
	}
	e, secret, err := s.Webhooks.RotateSecret(c.UserContext(), origin(c), c.Params("endpoint"), r.Secret, overlap)
	switch {
	case err != nil && wantsJSON(c):
		return err
	case problemOf(err) != "":
		before, failed := s.Webhooks.Endpoint(c.UserContext(), c.Params("endpoint"))
		if failed != nil {
			return failed
		}
		form := hooks.EndpointForm{Name: before.Name, URL: before.URL, Events: strings.Fields(before.Events)}
		return s.endpointPage(c, statusOf(err), before, hooks.EndpointPage{Problem: problemOf(err), Form: form})
	case err != nil:
		return err
	case wantsJSON(c):
		made, err := s.asEndpointJSON(e)
		if err != nil {
			return err
		}
		made.Secret = secret
		return c.JSON(made)
	}
	return s.endpointPage(c, fiber.StatusOK, e, hooks.EndpointPage{Secret: secret})
}

// retireSecret ends the overlap of a rotation.
func (s *Server) retireSecret(c *fiber.Ctx) error {
	e, err := s.Webhooks.RetireSecret(c.UserContext(), origin(c), c.Params("endpoint"))
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return seeOther(c, "/webhooks/endpoints/"+url.PathEscape(e.ID)+"?done=retired")
	}
	o, err := s.asEndpointJSON(e)
	if err != nil {
		return err
	}
	return c.JSON(o)
}

// deleteEndpoint ends a subscription.
func (s *Server) deleteEndpoint(c *fiber.Ctx) error {
	err := s.Webhooks.DeleteEndpoint(c.UserContext(), origin(c), c.Params("endpoint"))
	switch {
	case err != nil:
		return err
	case wantsJSON(c):
		return c.JSON(fiber.Map{"id": c.Params("endpoint"), "deleted": true})
	}
	return seeOther(c, "/webhooks/endpoints?done=deleted")
}
