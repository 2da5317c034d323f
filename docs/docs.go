// Package docs holds the guides: Markdown that reads well in the repository, and the same as pages of the binary. Its invariant: a page
// shows nothing that is not in its file, and the reference nothing that is not in api/openapi.yaml.
package docs

import (
	"bytes"
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

//go:embed *.md
var files embed.FS

// Page is one guide.
type Page struct {
	Name     string // of its file, without the ending
	Title    string // its first heading
	Summary  string // its first paragraph, as plain text
	Markdown []byte
	HTML     string // rendered; nothing in it was taken over unescaped
	Headings []Heading
}

// Heading is a part of a page that can be gone to.
type Heading struct{ ID, Text string }

// Section is a group of pages under one word.
type Section struct {
	Title string
	Pages []Page
}

// Reference is the name of the page that is made of the contract and has no file.
const Reference = "reference"

// order is where each guide stands.
func order() []struct {
	title string
	names []string
} {
	return []struct {
		title string
		names []string
	}{
		{"Begin", []string{"quickstart"}},
		{"Call agents", []string{"executions", "webhooks", "human-in-the-loop", "errors", "cli"}},
		{"Write agents", []string{"agents", "routers", "existing-agents"}},
		{"Run the server", []string{"configuration", "access", "state-machine"}},
		{"Look up", []string{Reference}},
	}
}

// Library is all pages, rendered once.
type Library struct {
	sections []Section
	pages    map[string]Page
}

// NewLibrary renders every guide, and the reference from the contract.
func NewLibrary(openAPI []byte) (*Library, error) {
	reference, err := referenceOf(openAPI)
	if err != nil {
		return nil, err
	}
	l := &Library{pages: map[string]Page{}}
	for _, group := range order() {
		section := Section{Title: group.title}
		for _, name := range group.names {
			source := reference
			if name != Reference {
				if source, err = files.ReadFile(name + ".md"); err != nil {
					return nil, fmt.Errorf("read the guide %s: %w", name, err)
				}
			}
			page, err := render(name, source)
			if err != nil {
				return nil, err
			}
			l.pages[name] = page
			section.Pages = append(section.Pages, page)
		}
		l.sections = append(l.sections, section)
	}
	return l, nil
}

// Sections are all pages in their order.
func (l *Library) Sections() []Section { return l.sections }

// Page finds one by its name.
func (l *Library) Page(name string) (Page, bool) {
	p, ok := l.pages[name]
	return p, ok
}

// Index is the list of all pages as a text for programs that read: one line each, with where its Markdown is.
func (l *Library) Index(base string) string {
	var b strings.Builder
	b.WriteString("# Agentfield\n\n> A control plane that makes remote agents callable like any API, remembers every call, and lets people decide.\n")
	for _, s := range l.sections {
		fmt.Fprintf(&b, "\n## %s\n\n", s.Title)
		for _, p := range s.Pages {
			fmt.Fprintf(&b, "- [%s](%s/docs/%s.md): %s\n", p.Title, base, p.Name, p.Summary)
		}
	}
	return b.String()
}

func render(name string, source []byte) (Page, error) {
	markdown := goldmark.New(
		goldmark.WithExtensions(extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute))),
		goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	)
	tree := markdown.Parser().Parse(text.NewReader(source))
	p := Page{Name: name, Markdown: source}
	err := ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			p.read(n, source)
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return p, fmt.Errorf("read the guide %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := markdown.Renderer().Render(&out, source, tree); err != nil {
		return p, fmt.Errorf("render the guide %s: %w", name, err)
	}
	p.HTML = reachable(out.String())
	return p, nil
}

// read takes from a node what a page says about itself, and points its links to pages instead of files.
func (p *Page) read(n ast.Node, source []byte) {
	switch n := n.(type) {
	case *ast.Heading:
		words := plain(n, source)
		if n.Level == 1 && p.Title == "" {
			p.Title = words
		}
		if id, ok := n.AttributeString("id"); ok && n.Level == 2 {
			if name, ok := id.([]byte); ok {
				p.Headings = append(p.Headings, Heading{string(name), words})
			}
		}
	case *ast.Paragraph:
		if p.Summary == "" && p.Title != "" {
			p.Summary = plain(n, source)
		}
	case *ast.Link:
		n.Destination = []byte(address(string(n.Destination)))
	}
}

// address turns the file of another guide into its page.
func address(to string) string {
	file, part, _ := strings.Cut(to, "#")
	name, isFile := strings.CutSuffix(file, ".md")
	if !isFile || strings.Contains(name, "/") {
		return to
	}
	if part != "" {
		part = "#" + part
	}
	return "/docs/" + name + part
}

// plain is the text of a node without its marks.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(source))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// reachable lets what may be wider than the page be scrolled by keyboard. The marks themselves cannot come from a guide: its text is escaped.
func reachable(html string) string {
	return strings.NewReplacer("<pre>", `<pre tabindex="0">`, "<table>", `<div class="scrolls" tabindex="0"><table>`, "</table>", "</table></div>").Replace(html)
}

// Guides are the names of all files, for what looks after them.
func Guides() []string {
	var names []string
	for _, group := range order() {
		names = append(names, group.names...)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == Reference })
}
