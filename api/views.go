package api

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/app/view"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/search"
)

// The lists that have saved views.
const (
	approvalViews  = "approvals"
	executionViews = "executions"
	runViews       = "runs"
)

// viewAlone is where an address leads that names a view and nothing else. What else is in an address wins over its view.
func (s *Server) viewAlone(c *fiber.Ctx, list string) (string, error) {
	id := c.Query("view")
	if id == "" || wantsJSON(c) || len(narrowing(queryOf(c))) > 0 || cannotBe("view", id) {
		return "", nil
	}
	v, err := s.Views.Get(c.UserContext(), list, id)
	if errors.Is(err, view.ErrNotFound) || v.Query == "" {
		return "", nil
	}
	return "/" + list + "?" + v.Query + "&view=" + url.QueryEscape(id), err
}

func orRedirect(c *fiber.Ctx, to string, err error) error {
	if err != nil {
		return err
	}
	return c.Redirect(to, fiber.StatusFound)
}

func queryOf(c *fiber.Ctx) url.Values {
	values, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		return url.Values{}
	}
	return values
}

// narrowing is the part of a query that a view keeps: no place in the list, and nothing that is empty.
func narrowing(query url.Values) url.Values {
	kept := maps.Clone(query)
	for key, values := range query {
		if values[0] == "" || slices.Contains([]string{"view", "cursor", "limit", "tz", "peek", "select", "after", "at"}, key) {
			kept.Del(key)
		}
	}
	return kept
}

// readable writes a query with its commas and colons as they are.
func readable(query url.Values) string {
	return strings.NewReplacer("%2C", ",", "%3A", ":").Replace(query.Encode())
}

// viewsOf are the saved views that a list offers: those of the visitor, and the one that the address names, whosever it is.
func (s *Server) viewsOf(c *fiber.Ctx, list string) (search.Views, error) {
	now := narrowing(queryOf(c))
	shown := search.Views{List: list, Query: readable(now)}
	saved, err := s.Views.List(c.UserContext(), principal(c).Name, list)
	if err != nil {
		return shown, err
	}
	for _, v := range saved {
		shown.Own = append(shown.Own, s.shownView(c, v))
	}
	id := c.Query("view")
	if id == "" || cannotBe("view", id) {
		return shown, nil
	}
	current, err := s.Views.Get(c.UserContext(), list, id)
	if errors.Is(err, view.ErrNotFound) {
		return shown, nil
	}
	if err != nil {
		return shown, err
	}
	one := s.shownView(c, current)
	shown.Current, shown.Mine = &one, current.Owner == principal(c).Name
	shown.Modified = current.Query != shown.Query
	return shown, nil
}

const viewCount = 1000

// shownView is a view with a count of what it finds, where an index counts.
func (s *Server) shownView(c *fiber.Ctx, v models.SavedView) search.View {
	one := search.View{ID: v.ID, Name: v.Name, Count: -1, Limit: viewCount}
	if v.List != executionViews {
		return one
	}
	query, err := url.ParseQuery(v.Query)
	if err != nil {
		return one
	}
	f, err := s.filterFrom(query.Get)
	if err != nil {
		return one
	}
	if f.Query, _ = filter.Executions().Parse(query.Get("q")); !countable(f.Query) {
		return one
	}
	if n, err := s.Executions.Count(c.UserContext(), f, viewCount); err == nil { // a page can do without
		one.Count = n
	}
	return one
}

// countable: what an index answers.
func countable(q filter.Query) bool {
	return !slices.ContainsFunc(q.Terms, func(t filter.Term) bool {
		return t.Not || !slices.Contains([]string{"status", "node", "session", "actor", "run", "parent", "id", "age"}, t.Key)
	})
}

// saveListView keeps the filter that the visitor sees under a name.
func (s *Server) saveListView(c *fiber.Ctx) error {
	list := c.FormValue("list")
	if list != executionViews && list != runViews {
		return badRequest("invalid_parameter", "this list has no saved views")
	}
	next, err := url.ParseQuery(c.FormValue("next"))
	if err != nil {
		return badRequest("invalid_form", "the filter cannot be read")
	}
	query := readable(narrowing(next))
	id, err := s.Views.Save(c.UserContext(), principal(c).Name, list, strings.TrimSpace(plainText(c.FormValue("name"))), query)
	if err != nil {
		return err
	}
	return seeOther(c, "/"+list+"?"+strings.TrimPrefix(query+"&view="+id, "&"))
}

func (s *Server) deleteListView(c *fiber.Ctx) error {
	if err := s.Views.Delete(c.UserContext(), principal(c).Name, c.Params("id")); err != nil {
		return err
	}
	return seeOther(c, localPath(c.FormValue("next", "/executions")))
}
