package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/approvals"
	"github.com/agentfield/agentfield/views/values"
)

// decideByForm takes a decision from the dashboard.
func (s *Server) decideByForm(c *fiber.Ctx) error {
	ctx := c.UserContext()
	if wantsJSON(c) {
		return s.decideOne(c)
	}
	typed := approvals.ReadForm(formOf(c))
	typed.Feedback = strings.ReplaceAll(typed.Feedback, "\r\n", "\n")
	word, ok := approval.ReadDecision(typed.Decision)
	if !ok || word == models.ApprovalExpired {
		return badRequest("decision_invalid", "choose approve, request changes or reject")
	}
	version, err := versionOf(c, "version")
	if err != nil {
		return err
	}
	if _, _, err := nextFilter(c); err != nil { // before anything is decided
		return err
	}
	a, err := s.Approvals.Get(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	response, problems, err := s.responseOf(ctx, a, typed)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return s.refill(c, &opened{approval: a, typed: &typed, problems: problems, status: fiber.StatusUnprocessableEntity})
	}
	edited, err := s.editedOf(ctx, a, typed)
	if err != nil {
		return err
	}
	done, err := s.Approvals.Decide(ctx, person(c), a.ID, approval.Decision{
		Word: word, Feedback: strings.TrimSpace(typed.Feedback), Response: response, Edited: edited, Version: version,
		Hold: c.FormValue("hold") == "1", FeedbackRequired: true,
	})
	if err != nil {
		return s.notDecided(c, err, a, &typed)
	}
	if err := s.Desk.SaveDraft(ctx, person(c).Name, "approval", a.ID, ""); err != nil {
		return err
	}
	return s.onward(c, done.Approval)
}

// versionOf is what the visitor has seen: a decision without it could be about something else.
func versionOf(c *fiber.Ctx, name string) (int, error) {
	version, err := strconv.Atoi(c.FormValue(name))
	if err != nil || version < 1 {
		return 0, badRequest("invalid_parameter", "%s is missing", name)
	}
	return version, nil
}

func bytesOf(text string) []byte {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	return []byte(text)
}

// editedOf is the proposal as the reviewer changed it; nil when it is still the same, because a browser without JavaScript sends it always.
func (s *Server) editedOf(ctx context.Context, a *models.Approval, typed approvals.Typed) ([]byte, error) {
	edited := bytesOf(typed.Edited)
	if edited == nil {
		return nil, nil
	}
	body, err := s.Approvals.Body(ctx, a.ID)
	if err != nil || values.Same(body.Payload, edited) {
		return nil, err
	}
	return edited, nil
}

// formOf is a form as it was sent.
func formOf(c *fiber.Ctx) url.Values {
	values := url.Values{}
	c.Request().PostArgs().VisitAll(func(key, value []byte) { values.Add(string(key), string(value)) })
	return values
}

// responseOf turns the fields of a form into the JSON that the agent gets, or says by field what is wrong.
func (s *Server) responseOf(ctx context.Context, a *models.Approval, typed approvals.Typed) ([]byte, map[string]string, error) {
	if !a.HasForm {
		return bytesOf(typed.Response), nil, nil
	}
	body, err := s.Approvals.Body(ctx, a.ID)
	if err != nil {
		return nil, nil, err
	}
	response, problems := approvals.Answers(body.Form, typed)
	return response, problems, nil
}

// notDecided shows why a decision was refused, with everything that was typed.
func (s *Server) notDecided(c *fiber.Ctx, err error, a *models.Approval, typed *approvals.Typed) error {
	open := &opened{approval: a, typed: typed}
	var late *approval.DecidedError
	var field *approval.FieldError
	switch {
	case errors.As(err, &late):
		open.approval, open.conflict, open.status = late.Approval, true, fiber.StatusConflict
	case errors.As(err, &field):
		open.problems, open.status = map[string]string{field.Field: upper(field.Message) + "."}, fiber.StatusUnprocessableEntity
	default:
		return err
	}
	return s.refill(c, open)
}

// refill shows a request again with what was typed.
func (s *Server) refill(c *fiber.Ctx, open *opened) error {
	shown, f, err := nextFilter(c)
	if err != nil {
		return err
	}
	list, err := s.Approvals.List(c.UserContext(), f)
	if err != nil {
		return err
	}
	return s.queuePage(c, shown, list, open)
}

// nextFilter is the filter of the list the visitor came from, from the form's field "next".
func nextFilter(c *fiber.Ctx) (approvals.Filter, approval.Filter, error) {
	query, err := url.ParseQuery(c.FormValue("next"))
	if err != nil {
		query = url.Values{}
	}
	c.Request().URI().SetQueryString(query.Encode())
	return queueFilter(c)
}

// onward leads to the next request of the list the visitor came from: the one the page names, else the first one after it. The decision
// is made: whatever is wrong with the list, the answer is not an error.
func (s *Server) onward(c *fiber.Ctx, decided *models.Approval) error {
	then := c.FormValue("then")
	shown, f, err := nextFilter(c)
	if err != nil {
		return err
	}
	to := shown.Href()
	next, err := s.nextOf(c.UserContext(), f, decided, then)
	if err != nil {
		s.Log.Warn("cannot find the next request for approval", "error", err)
	} else if next != "" {
		to = shown.Item(next)
	}
	separator := "?"
	if strings.Contains(to, "?") {
		separator = "&"
	}
	return seeOther(c, to+separator+"done="+url.QueryEscape(decided.ID))
}

func (s *Server) nextOf(ctx context.Context, f approval.Filter, decided *models.Approval, then string) (string, error) {
	if then != "" && opaque("then", then) == nil {
		a, err := s.Approvals.Get(ctx, then)
		if err == nil && a.Status == models.ApprovalPending {
			return a.ID, nil
		}
		if err != nil && !errors.Is(err, approval.ErrNotFound) {
			return "", err
		}
	}
	list, err := s.Approvals.List(ctx, f)
	if err != nil {
		return "", err
	}
	first := ""
	for _, a := range list.Rows {
		if a.ID == decided.ID || a.Status != models.ApprovalPending {
			continue
		}
		if after(f, a, decided) {
			return a.ID, nil
		}
		if first == "" {
			first = a.ID
		}
	}
	return first, nil
}

// after reports whether a stands below b in a list.
func after(f approval.Filter, a, b *models.Approval) bool {
	if f.Newest {
		return a.CreatedAt < b.CreatedAt || a.CreatedAt == b.CreatedAt && a.ID < b.ID
	}
	return a.ExpiresAt > b.ExpiresAt || a.ExpiresAt == b.ExpiresAt && a.ID > b.ID
}

// decideOne is the JSON twin: a decision on one request by its id.
func (s *Server) decideOne(c *fiber.Ctx) error {
	var r struct {
		Decision string          `json:"decision"`
		Feedback string          `json:"feedback"`
		Response json.RawMessage `json:"response"`
		Edited   json.RawMessage `json:"edited"`
		Version  int             `json:"version"`
	}
	if err := bind(c, &r, false); err != nil {
		return err
	}
	word, ok := approval.ReadDecision(r.Decision)
	if !ok {
		return badRequest("decision_invalid", "decision is approved, rejected or request_changes")
	}
	done, err := s.Approvals.Decide(c.UserContext(), person(c), c.Params("id"), approval.Decision{
		Word: word, Feedback: r.Feedback, Response: present(r.Response), Edited: present(r.Edited), Version: r.Version,
	})
	if err != nil {
		return err
	}
	return s.processed(c, done.Approval, done.Repeated)
}

// undoDecision withdraws a decision that is not in effect yet.
func (s *Server) undoDecision(c *fiber.Ctx) error {
	before, err := s.Approvals.Get(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	a, err := s.Approvals.Undo(c.UserContext(), person(c), before.ID)
	if err != nil {
		return err
	}
	// What was written is in the box again.
	if text := (approvals.Typed{Feedback: text(before.Feedback)}).Draft(); text != "" {
		if err := s.Desk.SaveDraft(c.UserContext(), principal(c).Name, "approval", a.ID, text); err != nil {
			return err
		}
	}
	return s.backTo(c, a)
}

func (s *Server) claimApproval(c *fiber.Ctx) error {
	a, err := s.Approvals.Claim(c.UserContext(), person(c), c.Params("id"))
	if err != nil {
		return err
	}
	return s.backTo(c, a)
}

func (s *Server) releaseApproval(c *fiber.Ctx) error {
	a, err := s.Approvals.Release(c.UserContext(), person(c), c.Params("id"))
	if err != nil {
		return err
	}
	return s.backTo(c, a)
}

// backTo answers an act on a request with the request.
func (s *Server) backTo(c *fiber.Ctx, a *models.Approval) error {
	if wantsJSON(c) {
		return sendJSON(c, fiber.StatusOK, approvalJSON(a))
	}
	shown, _, err := nextFilter(c)
	if err != nil {
		return err
	}
	return seeOther(c, shown.Item(a.ID))
}

// saveDraft keeps what somebody types; also sent by the browser while the page goes away.
func (s *Server) saveDraft(c *fiber.Ctx) error {
	a, err := s.Approvals.Get(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	if err := s.Desk.SaveDraft(c.UserContext(), principal(c).Name, "approval", a.ID, plainText(c.FormValue("text"))); err != nil {
		return err
	}
	if c.FormValue("discard") == "1" {
		return s.backTo(c, a)
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// plainText is what both databases can store of a text.
func plainText(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
}
