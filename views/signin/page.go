// Package signin is the page where people say who they are, and where the first admin of a server is made. It works without script.
package signin

import "github.com/agentfield/agentfield/views/layout"

// Page is the form, and what came of it.
type Page struct {
	Frame   layout.Page
	First   bool   // nobody can sign in yet: the form makes the first admin
	Next    string // where to go afterwards; a path of this server
	Name    string // as it was typed; the password is never sent back
	Display string
	Token   string // the first token, as it was typed
	Problem string // why it did not work; empty: it was not tried
}
