package api

import (
	"context"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/models"
	auditview "github.com/agentfield/agentfield/views/audit"
	"github.com/agentfield/agentfield/views/layout"
)

// auditRoutes show the record of who did what, on a page and by the API.
func (s *Server) auditRoutes() []Route {
	return []Route{
		{"GET", "/audit", access.Admin, s.listAudit},
		{"GET", "/audit.csv", access.Admin, func(c *fiber.Ctx) error { return s.exportAudit(c, audit.CSV, "text/csv; charset=utf-8") }},
		{"GET", "/audit.ndjson", access.Admin, func(c *fiber.Ctx) error { return s.exportAudit(c, audit.NDJSON, "application/x-ndjson") }},
		{"GET", "/audit/verify", access.Admin, s.verifyAudit},
	}
}

const auditPage = 50

// auditFilter reads what was asked for.
func (s *Server) auditFilter(c *fiber.Ctx) (audit.Filter, error) {
	f := audit.Filter{Actor: c.Query("actor"), Action: c.Query("action"), Object: c.Query("object"), Channel: c.Query("channel")}
	for name, value := range map[string]string{"actor": f.Actor, "action": f.Action, "object": f.Object, "channel": f.Channel} {
		if err := opaque(name, value); err != nil {
			return audit.Filter{}, err
		}
	}
	var err error
	if f.Since, err = instantParam("since", c.Query("since"), s.Now()); err != nil {
		return f, err
	}
	f.Until, err = instantParam("until", c.Query("until"), s.Now())
	return f, err
}

func (s *Server) listAudit(c *fiber.Ctx) error {
	f, err := s.auditFilter(c)
	if err != nil && wantsJSON(c) {
		return err
	}
	problem := s.refusal(c, err)
	before, limit := int64(0), c.QueryInt("limit", auditPage)
	if text := c.Query("cursor"); text != "" {
		if before, err = strconv.ParseInt(text, 10, 64); err != nil || before < 1 {
			return badRequest("invalid_cursor", "cursor must be one that an answer gave")
		}
	}
	if limit < 1 || limit > 200 {
		return badRequest("invalid_parameter", "limit must lie between 1 and 200")
	}
	entries, more, err := s.Audit.List(c.UserContext(), f, before, limit)
	if err != nil {
		return err
	}
	next := int64(0)
	if more {
		next = entries[len(entries)-1].ID
	}
	if !wantsJSON(c) {
		return s.auditPage(c, entries, before, next, problem)
	}
	list := make([]audit.Record, len(entries))
	for i := range entries {
		list[i] = audit.RecordOf(&entries[i])
	}
	answer := fiber.Map{"entries": list, "next_cursor": nil}
	if more {
		answer["next_cursor"] = strconv.FormatInt(next, 10)
	}
	return c.JSON(answer)
}

func (s *Server) auditPage(c *fiber.Ctx, entries []models.AuditEntry, before, next int64, problem string) error {
	p := auditview.Page{
		Frame: s.frame(c, "Audit", "audit", layout.Crumb{Label: "Audit"}), Entries: entries, Cursor: before, Next: next, Problem: problem,
		Filter: auditview.Filter{
			Actor: c.Query("actor"), Action: c.Query("action"), Object: c.Query("object"), Channel: c.Query("channel"), Since: c.Query("since"),
		},
	}
	p.Frame.Live = false
	if c.Query("verify") != "" {
		report, err := s.Audit.Verify(c.UserContext())
		if err != nil {
			return err
		}
		p.Checked = &auditview.Verified{OK: report.OK(), Entries: report.Entries, BadID: report.BadID, Problem: report.Problem}
		if report.Head.ID > 0 {
			p.Checked.Anchor = report.Head.String()
		}
	}
	return page(c, c.Response().StatusCode(), auditview.Show(p))
}

// verifyAudit recomputes the chain. ?anchor= is an entry whose hash somebody noted before.
func (s *Server) verifyAudit(c *fiber.Ctx) error {
	if !wantsJSON(c) {
		return seeOther(c, "/audit?verify=1")
	}
	var anchors []audit.Anchor
	if text := c.Query("anchor"); text != "" {
		anchor, err := audit.ParseAnchor(text)
		if err != nil {
			return badRequest("invalid_parameter", "%s", err.Error())
		}
		anchors = append(anchors, anchor)
	}
	report, err := s.Audit.Verify(c.UserContext(), anchors...)
	if err != nil {
		return err
	}
	answer := fiber.Map{"ok": report.OK(), "entries": report.Entries, "head": nil}
	if report.Head.ID > 0 {
		answer["head"] = report.Head.String()
	}
	if !report.OK() {
		answer["bad_id"], answer["problem"] = report.BadID, report.Problem
	}
	return c.JSON(answer)
}

// exportAudit streams all entries that a filter chooses, and records that somebody took them. When the log cannot be read to its end the
// connection is cut, so that half a file does not look like a whole one.
func (s *Server) exportAudit(c *fiber.Ctx, format audit.Format, contentType string) error {
	f, err := s.auditFilter(c)
	if err != nil {
		return err
	}
	now := s.Now()
	if err := s.Audit.Record(c.UserContext(), audit.Entry{
		Origin: origin(c), At: now.UnixMilli(), Action: "audit.exported", ObjectKind: "audit", Object: string(format), After: f,
	}); err != nil {
		return err
	}
	text, err := s.Audit.Export(context.WithoutCancel(c.UserContext()), format, f) // it is read after the handler has returned
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, contentType)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="audit-`+now.UTC().Format("20060102-150405")+"."+string(format)+`"`)
	return c.SendStream(text)
}
