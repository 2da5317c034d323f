package api

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/views/components"
)

// What the lists on screen ask for to stay true: their rows by id, and how many have come above the first.

// maxRows bounds how many rows can be brought up to date at once.
const maxRows = 200

// rowsAsked are the ids of the rows that are to be brought up to date. What cannot be an id is left out.
func rowsAsked(c *fiber.Ctx) ([]string, error) {
	ids := strings.FieldsFunc(c.Query("ids"), func(r rune) bool { return r == ',' })
	if len(ids) > maxRows {
		return nil, badRequest("too_many_ids", "at most %d rows can be asked for at once", maxRows)
	}
	return slices.DeleteFunc(ids, func(id string) bool { return cannotBe("id", id) }), nil
}

// trueAt is when the list on screen was true, in Unix ms.
func (s *Server) trueAt(c *fiber.Ctx) int64 {
	at, err := strconv.ParseInt(c.Query("at"), 10, 64)
	if err != nil {
		return s.Now().UnixMilli()
	}
	return at
}

// freshRows answers with the number of rows that are newer than the first one on screen, as a link to the list that has them.
func (s *Server) freshRows(c *fiber.Ctx, href string, newer func(ctx context.Context, after string) (n int, more bool, err error)) error {
	after := c.Query("after")
	if err := opaque("after", after); err != nil {
		return err
	}
	n, more, err := newer(c.UserContext(), after)
	if err != nil {
		return err
	}
	return page(c, fiber.StatusOK, components.FreshPill(components.Fresh{Href: href, Count: n, More: more, At: s.trueAt(c)}))
}

// emptiness is asked when a filter finds nothing: whether there is anything at all, and what could be called to make the first.
func (s *Server) emptiness(ctx context.Context, newest func(ctx context.Context) (int, error)) (there bool, target string, err error) {
	n, err := newest(ctx)
	if err != nil {
		return false, "", err
	}
	target, err = s.Nodes.AnyTarget(ctx)
	return n > 0, target, err
}
