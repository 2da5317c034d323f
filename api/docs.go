package api

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/docs"
	docsview "github.com/agentfield/agentfield/views/docs"
	"github.com/agentfield/agentfield/views/layout"
)

// docsRoutes show the guides that are part of the program. There is nothing in them that is not public.
func (s *Server) docsRoutes() []Route {
	return []Route{
		{"GET", "/docs", access.Public, s.docsIndex},
		{"GET", "/docs/:page", access.Public, s.docsPage},
		{"GET", "/llms.txt", access.Public, s.docsForPrograms},
	}
}

func (s *Server) docsIndex(c *fiber.Ctx) error {
	p, err := s.docsFrame(c, "Documentation")
	if err != nil {
		return err
	}
	return page(c, fiber.StatusOK, docsview.Index(p))
}

// docsPage shows a guide, or with the ending .md its Markdown.
func (s *Server) docsPage(c *fiber.Ctx) error {
	library, err := s.library()
	if err != nil {
		return err
	}
	name, raw := strings.CutSuffix(c.Params("page"), ".md")
	guide, ok := library.Page(name)
	if !ok {
		return fiber.NewError(fiber.StatusNotFound, "there is no guide of this name")
	}
	if raw {
		c.Set(fiber.HeaderContentType, "text/markdown; charset=utf-8")
		return c.Send(guide.Markdown)
	}
	p, err := s.docsFrame(c, guide.Title, layout.Crumb{Label: "Documentation", Href: "/docs"}, layout.Crumb{Label: guide.Title})
	if err != nil {
		return err
	}
	p.Name, p.Text = guide.Name, docsview.Prose(guide.HTML)
	for _, h := range guide.Headings {
		p.Headings = append(p.Headings, docsview.Heading(h))
	}
	return page(c, fiber.StatusOK, docsview.Show(p))
}

func (s *Server) docsForPrograms(c *fiber.Ctx) error {
	library, err := s.library()
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextPlainCharsetUTF8)
	return c.SendString(library.Index(s.base(c)))
}

func (s *Server) docsFrame(c *fiber.Ctx, title string, crumbs ...layout.Crumb) (docsview.Page, error) {
	library, err := s.library()
	if err != nil {
		return docsview.Page{}, err
	}
	p := docsview.Page{Frame: s.frame(c, title, "docs", crumbs...)}
	p.Frame.Live = false
	p.Frame.Assets = []string{"docs.css"}
	for _, section := range library.Sections() {
		shown := docsview.Section{Title: section.Title}
		for _, guide := range section.Pages {
			shown.Pages = append(shown.Pages, docsview.Link{Name: guide.Name, Title: guide.Title, Summary: guide.Summary})
		}
		p.Sections = append(p.Sections, shown)
	}
	return p, nil
}

// newLibrary renders the guides when somebody asks for one for the first time.
func newLibrary() (*docs.Library, error) { return docs.NewLibrary(openAPI) }
