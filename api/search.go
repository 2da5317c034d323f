package api

import (
	"strconv"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/views/search"
)

// typedFilter reads ?q=. A program is refused what was not understood; a person gets the rest of it, and is told on the page.
func typedFilter(c *fiber.Ctx, language filter.Language) (filter.Query, error) {
	text := c.Query("q")
	query, problems := language.Parse(text)
	if len(problems) == 0 || !wantsJSON(c) {
		return query, nil
	}
	first := problems[0]
	at := utf8.RuneCountInString(text[:first.At]) + 1
	return query, &failure{
		status: fiber.StatusBadRequest, code: "invalid_filter", title: "Invalid filter", position: at,
		details: "at character " + strconv.Itoa(at) + " of q: " + first.Text,
	}
}

// shownSearch is ?q= as the page shows it: as it was written, what was understood term by term, and what was not.
func shownSearch(c *fiber.Ctx, language filter.Language) search.Typed {
	text := c.Query("q")
	query, problems := language.Parse(text)
	shown := search.Typed{Text: text}
	for _, k := range language {
		shown.Keys = append(shown.Keys, search.Key{Name: k.Name, Hint: k.Hint, Words: k.Words})
	}
	for i, t := range query.Terms {
		shown.Terms = append(shown.Terms, search.Term{Text: t.String(), Rest: query.Without(i).String()})
	}
	for _, p := range problems {
		problem := search.Problem{Before: text[:p.At], Wrong: text[p.At:p.End], After: text[p.End:], Text: p.Text}
		if p.Near != "" {
			problem.Fixed = filter.Corrected(text, p)
		}
		shown.Problems = append(shown.Problems, problem)
	}
	return shown
}

// suggest lists values of a key that begin like this, for whoever types a filter.
func (s *Server) suggest(c *fiber.Ctx) error {
	key, prefix := c.Query("key"), c.Query("prefix")
	if err := opaque("prefix", prefix); err != nil {
		return err
	}
	k, ok := filter.Executions().Key(key)
	if !ok {
		k, ok = filter.Runs().Key(key)
	}
	if !ok {
		return badRequest("invalid_parameter", "key is one of those of the filter language")
	}
	values := beginning(k.Words, prefix)
	if k.Kind != filter.Choice {
		var err error
		if values, err = s.Executions.Suggest(c.UserContext(), k.Name, prefix); err != nil {
			return err
		}
	}
	if values == nil {
		values = []string{} // of numbers and times there is nothing to suggest
	}
	c.Set(fiber.HeaderCacheControl, "private, max-age=60")
	if !wantsJSON(c) {
		c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
		return search.Suggestions(values).Render(c.UserContext(), c.Response().BodyWriter())
	}
	o := newObject(256)
	o.text("key", k.Name)
	o.value("values", values)
	return sendJSON(c, fiber.StatusOK, o.end())
}

func beginning(words []string, prefix string) []string {
	found := []string{}
	for _, word := range words {
		if len(prefix) <= len(word) && word[:len(prefix)] == prefix {
			found = append(found, word)
		}
	}
	return found
}

const shownGroups = 6

// failureGroups tells which errors there were, how often and where.
func (s *Server) failureGroups(c *fiber.Ctx) error {
	since, err := instantParam("since", c.Query("since", "24h"), s.Now())
	if err != nil {
		return err
	}
	limit, err := limitParam(c.Query("limit", "50"))
	if err != nil {
		return err
	}
	groups, cut, err := s.Executions.FailureGroups(c.UserContext(), since, limit)
	if err != nil {
		return err
	}
	type group struct {
		Group   string `json:"group"`
		Target  string `json:"target"`
		Count   int    `json:"count"`
		First   string `json:"first_seen_at"`
		Last    string `json:"last_seen_at"`
		Message string `json:"error"`
		Code    string `json:"code,omitempty"`
		Query   string `json:"q"`
	}
	list := make([]group, len(groups))
	for i, g := range groups {
		target := g.NodeID + "." + g.Function
		list[i] = group{g.Group, target, g.Count, formatMs(g.First), formatMs(g.Last), g.Message, g.Code, search.GroupQuery(g.Group, target)}
	}
	o := newObject(256 * (len(list) + 1))
	o.value("groups", list)
	o.truth("truncated", cut)
	return sendJSON(c, fiber.StatusOK, o.end())
}

// savedRoutes are what people do about their views.
func (s *Server) savedRoutes() []Route {
	return []Route{
		{"POST", "/views", access.Read, s.saveListView},
		{"POST", "/views/:id/delete", access.Read, s.deleteListView},
	}
}

// searchRoutes help people and programs alike to write a filter.
func (s *Server) searchRoutes() []Route {
	return []Route{
		{"GET", "/suggest", access.Read, s.suggest},
		{"GET", "/executions.csv", access.Read, func(c *fiber.Ctx) error { return s.exportExecutions(c, csvForm()) }},
		{"GET", "/executions.ndjson", access.Read, func(c *fiber.Ctx) error { return s.exportExecutions(c, linesForm()) }},
		{"GET", "/executions.json", access.Read, func(c *fiber.Ctx) error { return s.exportExecutions(c, jsonForm()) }},
	}
}
