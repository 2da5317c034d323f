package api

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/views/layout"
	hooks "github.com/agentfield/agentfield/views/webhooks"
)

// chosenWebhooks names deliveries one by one, or by a filter.
type chosenWebhooks struct {
	IDs       []string `json:"ids" form:"id"`
	State     string   `json:"state" form:"state"`
	Class     string   `json:"class" form:"class"`
	Host      string   `json:"host" form:"host"`
	Event     string   `json:"event" form:"event"`
	Execution string   `json:"execution" form:"execution"`
	Endpoint  string   `json:"endpoint" form:"endpoint"`
	Since     string   `json:"since" form:"since"`
	Until     string   `json:"until" form:"until"`
}

func (r chosenWebhooks) get(name string) string {
	return map[string]string{
		"state": r.State, "class": r.Class, "host": r.Host, "event": r.Event, "execution": r.Execution, "endpoint": r.Endpoint,
		"since": r.Since, "until": r.Until,
	}[name]
}

// chosen reads what an act on many is about.
func chosen(c *fiber.Ctx) (r chosenWebhooks, err error) {
	if wantsJSON(c) {
		return r, bind(c, &r, false)
	}
	if err := c.BodyParser(&r); err != nil {
		return r, badRequest("invalid_form", "the form was changed on its way: load the page again")
	}
	return r, nil
}

// either is the filter of an act on many, or nil when it names them one by one.
func (s *Server) either(r chosenWebhooks) (*webhook.Filter, error) {
	f, err := s.webhookFilter(r.get)
	if err != nil {
		return nil, err
	}
	named := f != webhook.Filter{}
	switch {
	case named == (len(r.IDs) > 0):
		return nil, badRequest("invalid_parameter", "name the webhooks either by their ids or by a filter")
	case named:
		return &f, nil
	}
	return nil, nil //nolint:nilnil // by their ids
}

// redeliverWebhooks sends those again that are named, or that a filter finds.
func (s *Server) redeliverWebhooks(c *fiber.Ctx) error {
	r, err := chosen(c)
	if err != nil {
		return err
	}
	done, more, err := s.redeliver(c, r)
	switch {
	case err != nil:
		return err
	case wantsJSON(c):
		return sendJSON(c, fiber.StatusAccepted, redeliveredJSON(done, more))
	}
	return seeOther(c, fmt.Sprintf("/webhooks?sent=%d", done.Queued))
}

func (s *Server) redeliver(c *fiber.Ctx, r chosenWebhooks) (done webhook.Redelivered, more bool, err error) {
	f, err := s.either(r)
	switch {
	case err != nil:
		return done, false, err
	case f == nil:
		done, err = s.Webhooks.Redeliver(c.UserContext(), origin(c), r.IDs...)
		return done, false, err
	}
	if _, more, err = s.Webhooks.Matching(c.UserContext(), *f); err != nil {
		return done, false, err
	}
	done, err = s.Webhooks.RedeliverMatching(c.UserContext(), origin(c), *f)
	return done, more, err
}

// stopWebhook stops trying one.
func (s *Server) stopWebhook(c *fiber.Ctx) error {
	d, err := s.Webhooks.Delivery(c.UserContext(), c.Params("delivery"))
	if err != nil {
		return err
	}
	done, err := s.Webhooks.GiveUp(c.UserContext(), origin(c), d.ID)
	switch {
	case errors.Is(err, webhook.ErrInFlight) && !wantsJSON(c):
		return s.webhookPage(c, fiber.StatusConflict, "An attempt is on its way: look at its outcome first.")
	case errors.Is(err, webhook.ErrNothingWaits) && !wantsJSON(c):
		return s.webhookPage(c, fiber.StatusConflict, "It would not be tried again anyway.")
	case err != nil:
		return err
	case wantsJSON(c):
		return sendJSON(c, fiber.StatusOK, stoppedJSON(done, false))
	}
	return seeOther(c, "/webhooks/"+url.PathEscape(d.ID)+"?done=stop")
}

// stopWebhooks stops trying those that are named, or that a filter finds.
func (s *Server) stopWebhooks(c *fiber.Ctx) error {
	r, err := chosen(c)
	if err != nil {
		return err
	}
	done, more, err := s.stopMany(c, r)
	switch {
	case err != nil:
		return err
	case wantsJSON(c):
		return sendJSON(c, fiber.StatusOK, stoppedJSON(done, more))
	}
	return seeOther(c, fmt.Sprintf("/webhooks?stopped=%d", done.Stopped))
}

func (s *Server) stopMany(c *fiber.Ctx, r chosenWebhooks) (done webhook.Stopped, more bool, err error) {
	f, err := s.either(r)
	switch {
	case err != nil:
		return done, false, err
	case f == nil:
		done, err = s.Webhooks.GiveUp(c.UserContext(), origin(c), r.IDs...)
		return done, false, err
	}
	f.Waiting = true
	if _, more, err = s.Webhooks.Matching(c.UserContext(), *f); err != nil {
		return done, false, err
	}
	done, err = s.Webhooks.GiveUpMatching(c.UserContext(), origin(c), *f)
	return done, more, err
}

func stoppedJSON(done webhook.Stopped, more bool) []byte {
	o := newObject(64)
	o.number("stopped", int64(done.Stopped))
	o.number("in_flight", int64(done.InFlight))
	o.truth("more", more)
	return o.end()
}

// confirmRedelivery is the page before many are sent again.
func (s *Server) confirmRedelivery(c *fiber.Ctx) error {
	return s.confirmMany(c, hooks.ConfirmPage{Act: "redeliver"}, "Send webhooks again", "Send again", false)
}

// confirmStop is the page before many are stopped.
func (s *Server) confirmStop(c *fiber.Ctx) error {
	return s.confirmMany(c, hooks.ConfirmPage{Act: "stop"}, "Stop webhooks", "Stop", true)
}

// confirmMany asks before an act on many. Its times are fixed, so that what comes meanwhile is none of its business.
func (s *Server) confirmMany(c *fiber.Ctx, p hooks.ConfirmPage, title, crumb string, waiting bool) error {
	ids := listed(c.Context().QueryArgs(), "id")
	if c.Query("chosen") != "" && len(ids) == 0 {
		return badRequest("invalid_parameter", "no rows are selected: select some in the list, or take all that the filter finds")
	}
	p.Frame = s.frame(c, title, "webhooks", layout.Crumb{Label: "Webhooks", Href: "/webhooks"}, layout.Crumb{Label: crumb})
	p.Back, p.IDs, p.Count, p.Limit = "/webhooks", ids, len(ids), webhook.RedeliverLimit
	p.Frame.Live, p.Frame.Assets = false, []string{"lists.css", "webhooks.css"}
	if len(ids) > webhook.RedeliverLimit {
		return webhook.ErrTooMany
	}
	if len(ids) == 0 {
		if err := s.countMany(c, &p, waiting); err != nil {
			return err
		}
	}
	return page(c, fiber.StatusOK, hooks.Confirm(p))
}

func (s *Server) countMany(c *fiber.Ctx, p *hooks.ConfirmPage, waiting bool) error {
	f, err := s.webhookFilter(query(c))
	if err != nil {
		return err
	}
	p.Back = webhookFilterAsWritten(c, f).Href()
	f.Limit, f.Cursor, f.Waiting = 0, "", waiting
	if f.Until == 0 {
		f.Until = s.Now().UnixMilli() + 1
	}
	if p.Count, p.More, err = s.Webhooks.Matching(c.UserContext(), f); err != nil {
		return err
	}
	p.Filter = hooks.Filter{State: f.State, Class: f.Class, Host: f.Host, Event: f.Event, Execution: f.Execution, Endpoint: f.Endpoint, Until: formatMs(f.Until)}
	if f.Since > 0 {
		p.Filter.Since = formatMs(f.Since)
	}
	return nil
}
