package api

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

const maxMessage = 64 << 10 // bytes of a note or of an error text

// reportStatus takes what an agent says about an execution (wire.md 3.9). Fields that senders add are ignored.
func (s *Server) reportStatus(c *fiber.Ctx) error {
	var r struct {
		Status       string          `json:"status"`
		StatusReason string          `json:"status_reason"`
		Result       json.RawMessage `json:"result"`
		Error        json.RawMessage `json:"error"`
		ErrorMessage string          `json:"error_message"`
		Details      json.RawMessage `json:"error_details"`
		Progress     *float64        `json:"progress"`
		Message      string          `json:"message"`
		Partial      json.RawMessage `json:"partial"`
	}
	if err := bind(c, &r, false); err != nil {
		return err
	}
	status, ok := models.ReportedStatus(r.Status)
	if !ok {
		return badRequest("invalid_status", "%q is not a status: use %s", strings.ToValidUTF8(r.Status, ""), statusWords())
	}
	report := execution.Report{
		Token: c.Get("X-Execution-Token"), Status: status, Reason: clip(r.StatusReason), Error: clip(errorWords(r.Error, r.ErrorMessage)),
		Details: present(r.Details), Message: clip(r.Message),
	}
	if len(r.Result) > 0 {
		report.Result = bytes.Clone(r.Result)
	}
	if report.Partial = present(r.Partial); report.Partial == nil && status == models.Running {
		report.Partial = present(r.Result) // the result of what still runs is the result so far
	}
	if len(report.Partial) > maxPartial {
		return aboutID(partialTooLarge(), c.Params("id"))
	}
	if r.Progress != nil {
		fraction := normalProgress(*r.Progress)
		report.Progress = &fraction
	}
	f, err := s.Executions.Report(c.UserContext(), c.Params("id"), report)
	if err != nil {
		return aboutID(err, c.Params("id"))
	}
	d, err := s.detail(c.UserContext(), f)
	if err != nil {
		return err
	}
	return sendJSON(c, fiber.StatusOK, d.json(""))
}

// errorWords: agents send a sentence, or an object with one inside.
func errorWords(raw json.RawMessage, message string) string {
	var words string
	if json.Unmarshal(raw, &words) == nil && words != "" {
		return words
	}
	if message != "" {
		return message
	}
	if present(raw) != nil {
		return string(raw)
	}
	return ""
}

// normalProgress: some senders count to 100.
func normalProgress(p float64) float64 {
	if p > 1 {
		p /= 100
	}
	return min(max(p, 0), 1)
}

// clip bounds free text and makes it fit for both databases and for a page.
func clip(text string) string {
	return clipTo(text, maxMessage)
}

func clipTo(text string, limit int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}

const maxPartial = 1 << 20 // bytes: it is written anew with every report

func partialTooLarge() error {
	return &failure{
		status: fiber.StatusRequestEntityTooLarge, code: "payload_too_large", title: "Payload too large", maxBytes: maxPartial,
		details: "a result so far may have 1 MiB: report a part of it, or where it is",
	}
}

// progress takes how far an execution is.
func (s *Server) progress(c *fiber.Ctx) error {
	var r struct {
		Progress *float64        `json:"progress"`
		Message  string          `json:"message"`
		Partial  json.RawMessage `json:"partial"`
	}
	if err := bind(c, &r, false); err != nil {
		return err
	}
	if r.Progress == nil && r.Message == "" && present(r.Partial) == nil {
		return badRequest("invalid_parameter", "send progress (0 to 1), message, partial, or several of them")
	}
	if r.Progress != nil {
		fraction := normalProgress(*r.Progress)
		r.Progress = &fraction
	}
	if len(r.Partial) > maxPartial {
		return aboutID(partialTooLarge(), c.Params("id"))
	}
	row, err := s.Executions.Progress(c.UserContext(), c.Params("id"), c.Get("X-Execution-Token"), r.Progress, clip(r.Message), present(r.Partial))
	if err != nil {
		return aboutID(err, c.Params("id"))
	}
	o := newObject(128)
	o.truth("success", true)
	o.text("execution_id", row.ID)
	o.text("status", string(row.Status))
	return sendJSON(c, fiber.StatusOK, o.end())
}

// note takes a remark of an agent about the execution it works on (wire.md 3.12).
func (s *Server) note(c *fiber.Ctx) error {
	var r struct {
		ExecutionID string   `json:"execution_id"`
		Message     string   `json:"message"`
		Tags        []string `json:"tags"`
	}
	if err := bind(c, &r, false); err != nil {
		return err
	}
	id := c.Get("X-Execution-ID", c.Query("execution_id", r.ExecutionID))
	if id == "" || opaque("X-Execution-ID", id) != nil {
		return badRequest("invalid_parameter", "name the execution: in the header X-Execution-ID, as execution_id of the query or of the body")
	}
	if r.Message == "" || len(r.Message) > maxMessage {
		return badRequest("invalid_parameter", "message must have between 1 and %d bytes", maxMessage)
	}
	if len(r.Tags) > 50 {
		return badRequest("invalid_parameter", "at most 50 tags")
	}
	tags := make([]string, len(r.Tags))
	for i, tag := range r.Tags {
		tags[i] = clip(tag)
	}
	e, err := s.Executions.Note(c.UserContext(), id, c.Get("X-Execution-Token"), clip(r.Message), tags)
	if err != nil {
		return aboutID(err, id)
	}
	o := newObject(256)
	o.truth("success", true)
	o.text("execution_id", id)
	o.value("note", noteJSON{clip(r.Message), tags, formatMs(e.At)})
	o.text("message", "Note added successfully")
	return sendJSON(c, fiber.StatusOK, o.end())
}

// aboutID lets an error body name the execution it is about.
func aboutID(err error, id string) error {
	f := *asFailure(err)
	if f.status < 500 && f.code != "execution_not_found" {
		f.executionID = id
		return &f
	}
	return err
}
