// Package docs shows the guides in the frame of the dashboard.
package docs

import (
	"context"
	"io"

	"github.com/agentfield/agentfield/views/layout"
)

// Section is a group of guides.
type Section struct {
	Title string
	Pages []Link
}

// Link is a guide in a list.
type Link struct{ Name, Title, Summary string }

// Heading is a part of a guide.
type Heading struct{ ID, Text string }

// Page is one guide, or with no Text the list of all of them.
type Page struct {
	Frame    layout.Page
	Sections []Section
	Name     string
	Text     Prose
	Headings []Heading
}

// Prose is a guide as HTML. It is part of the program, rendered from its own Markdown without taking over any tag; nothing that
// anybody has sent gets here.
type Prose string

// Render writes it.
func (p Prose) Render(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, string(p))
	return err
}
