package api

import (
	"errors"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/approvals"
	"github.com/agentfield/agentfield/views/layout"
)

// bulkForm is the page before several requests are decided together.
func (s *Server) bulkForm(c *fiber.Ctx) error {
	shown, _, err := queueFilter(c)
	if err != nil {
		return err
	}
	return s.bulkPage(c, shown, listed(c.Context().QueryArgs(), "ids"), fiber.StatusOK, "", "")
}

// listed are the ids of a field that may come several times, each with a comma list.
func listed(args *fasthttp.Args, key string) []string {
	var ids []string
	for _, value := range args.PeekMulti(key) {
		ids = append(ids, possibleIDs(string(value))...)
	}
	return ids
}

// possibleIDs are those of a comma list that something can have.
func possibleIDs(list string) []string {
	ids := strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
	return slices.DeleteFunc(ids, func(id string) bool { return opaque("id", id) != nil })
}

func (s *Server) bulkPage(c *fiber.Ctx, shown approvals.Filter, ids []string, status int, feedback, problem string) error {
	p := approvals.Bulk{
		Frame: s.frame(c, "Decide together", "approvals", layout.Crumb{Label: "Approvals", Href: shown.Href()}, layout.Crumb{Label: "Decide together"}),
		Me:    principal(c).Name, Filter: shown, Right: anyRight(person(c)), Hold: int(s.Approvals.Hold.Seconds()), Feedback: feedback, Problem: problem,
		Consequences: approvals.Consequences{
			Approve: "Each agent continues now.", RequestChanges: "Each agent continues with your words and is expected to ask again.", Reject: "Each agent is told no.",
		},
	}
	if err := s.sortOut(c, &p, ids); err != nil {
		return err
	}
	return page(c, status, approvals.BulkPage(p))
}

// sortOut separates what can be decided together from what has to be looked at by itself.
func (s *Server) sortOut(c *fiber.Ctx, p *approvals.Bulk, ids []string) error {
	if len(ids) > approvals.BulkLimit {
		return badRequest("too_many_ids", "at most %d requests can be decided together", approvals.BulkLimit)
	}
	found, err := s.Approvals.Rows(c.UserContext(), ids)
	if err != nil {
		return err
	}
	for _, a := range found {
		if why := alone(person(c), a); why != "" {
			p.Excluded = append(p.Excluded, approvals.Excluded{Approval: a, Reason: why})
			continue
		}
		body, err := s.Approvals.Body(c.UserContext(), a.ID)
		if err != nil {
			return err
		}
		p.Items = append(p.Items, approvals.BulkItem{Approval: a, Payload: body.Payload})
	}
	return nil
}

// alone says why a request has to be decided by itself; "" when it has not.
func alone(who approval.Person, a *models.Approval) string {
	switch {
	case !a.Status.Open():
		return "It is decided already."
	case a.Status == models.ApprovalHeld:
		return "A decision about it takes effect in a moment."
	case a.Risk == "high":
		return "High risk: decide it by itself."
	case a.Quorum > 1:
		return "It needs several reviewers: decide it by itself."
	case a.HasForm:
		return "It asks questions: decide it by itself."
	}
	if right := rightTo(who, a); !right.Allowed {
		return right.Why
	}
	return ""
}

// decideTogether records one decision for several requests, each by itself.
func (s *Server) decideTogether(c *fiber.Ctx) error {
	ctx := c.UserContext()
	shown, _, err := nextFilter(c)
	if err != nil {
		return err
	}
	ids := listed(c.Request().PostArgs(), "ids")
	word, ok := approval.ReadDecision(c.FormValue("decision"))
	if !ok || word == models.ApprovalExpired {
		return badRequest("decision_invalid", "choose approve, request changes or reject")
	}
	feedback := strings.TrimSpace(c.FormValue("feedback"))
	if word != models.Approved && feedback == "" {
		return s.bulkPage(c, shown, ids, fiber.StatusUnprocessableEntity, feedback, "Say why: each agent gets these words.")
	}
	var p approvals.Bulk
	if err := s.sortOut(c, &p, ids); err != nil {
		return err
	}
	result := approvals.BulkDone{
		Frame: s.frame(c, "Decided together", "approvals", layout.Crumb{Label: "Approvals", Href: shown.Href()}, layout.Crumb{Label: "Decided together"}),
		Me:    principal(c).Name, Filter: shown, Decision: word,
	}
	seen := make([]int, len(p.Items))
	for i, item := range p.Items {
		if seen[i], err = versionOf(c, "version."+item.Approval.ID); err != nil {
			return err // nothing is decided yet
		}
	}
	for i, item := range p.Items {
		done, err := s.Approvals.Decide(ctx, person(c), item.Approval.ID, approval.Decision{
			Word: word, Feedback: feedback, Version: seen[i], Hold: c.FormValue("hold") == "1", FeedbackRequired: true,
		})
		result.Results = append(result.Results, resultOf(item.Approval, done, err))
	}
	for _, e := range p.Excluded {
		result.Results = append(result.Results, approvals.Result{Approval: e.Approval, Text: e.Reason})
	}
	return page(c, fiber.StatusOK, approvals.BulkResult(result))
}

func resultOf(before *models.Approval, done approval.Outcome, err error) approvals.Result {
	if err == nil {
		text := "Decided."
		if done.Approval.Status == models.ApprovalHeld {
			text = "Takes effect in a moment; it can still be withdrawn."
		}
		return approvals.Result{Approval: done.Approval, OK: true, Text: text}
	}
	if late, ok := errors.AsType[*approval.DecidedError](err); ok {
		return approvals.Result{Approval: late.Approval, Text: upper(late.Error()) + "."}
	}
	f := asFailure(err)
	return approvals.Result{Approval: before, Text: upper(f.details) + "."}
}
