// Package layout is the frame around every page: navigation, search, theme, the state of the live connection. A page gives it plain
// data and its content; the frame asks for nothing, so that it costs nothing.
package layout

import (
	"net/url"
	"path"
	"slices"
	"time"

	"github.com/agentfield/agentfield/views/components"
)

// Page is what the frame needs to know about a page.
type Page struct {
	Title   string           // of the document, without the product's name
	Active  string           // key of the entry of the navigation that is lit, such as "executions"
	Crumbs  []Crumb          // the way to this page, itself last
	Theme   string           // "light" or "dark" from the cookie "theme"; anything else follows the system
	Path    string           // path and query of this page, where the theme form returns to
	BaseURL string           // under which callers reach this server, without a slash at the end; for commands to copy
	Notice  string           // a sentence above the page that holds for the whole server, such as "Loopback only, without sign-in"; may be empty
	Version string           // of the program
	Seq     int64            // newest event this page knows of, where the stream goes on; 0: unknown, then the page asks again once it is live
	Badges  map[string]Badge // numbers beside entries of the navigation, by their keys; the one of Active also stands before the title
	Assets  []string         // scripts and style sheets of this page alone, by their names in static
	Live    bool             // the page has regions that follow the stream
	Now     time.Time        // by the server's clock
	Person  string           // who is signed in, as people call them; empty: nobody is, or nobody has to be
	Admin   bool             // may see what only admins see
}

// Crumb is a step of the way to a page.
type Crumb struct {
	Label string
	Href  string // empty for the page itself
}

// Badge is a number beside an entry of the navigation.
type Badge struct {
	Count  int
	Urgent bool // something is overdue: a red dot
}

// documentTitle is what the browser's tab says.
func (p Page) documentTitle() string {
	if n := p.Badges[p.Active].Count; n > 0 {
		return "(" + components.Number(n) + ") " + p.Title
	}
	return p.Title
}

// Themes are the words of the cookie and of the form.
const (
	Light  = "light"
	Dark   = "dark"
	System = "system"
)

// chosen is the theme whose button is pressed.
func (p Page) chosen() string {
	if p.Theme == Light || p.Theme == Dark {
		return p.Theme
	}
	return System
}

// own are those of the page's assets with an ending.
func (p Page) own(ending string) []string {
	return slices.DeleteFunc(slices.Clone(p.Assets), func(name string) bool { return path.Ext(name) != ending })
}

// host is the server's name as people know it.
func (p Page) host() string {
	if u, err := url.Parse(p.BaseURL); err == nil && u.Host != "" {
		return u.Host
	}
	return p.BaseURL
}

// entry is a line of the navigation.
type entry struct {
	key, label, href, icon string
	admin                  bool // only admins see it
}

// navigation lists what is built, in order. A page that does not exist is not in it.
func navigation() []entry {
	return []entry{
		{key: "overview", label: "Overview", href: "/", icon: "overview"},
		{key: "executions", label: "Executions", href: "/executions", icon: "executions"},
		{key: "runs", label: "Runs", href: "/runs", icon: "runs"},
		{key: "approvals", label: "Approvals", href: "/approvals", icon: "approvals"},
		{key: "nodes", label: "Nodes", href: "/nodes", icon: "node"},
		{key: "reasoners", label: "Reasoners", href: "/reasoners", icon: "function"},
		{key: "webhooks", label: "Webhooks", href: "/webhooks", icon: "webhook"},
		{key: "audit", label: "Audit", href: "/audit", icon: "note", admin: true},
		{key: "docs", label: "Docs", href: "/docs", icon: "info"},
		{key: "settings", label: "Settings", href: "/settings", icon: "system"},
	}
}

// entries are those of the navigation that this visitor may use.
func (p Page) entries() []entry {
	return slices.DeleteFunc(navigation(), func(e entry) bool { return e.admin && !p.Admin })
}

type option struct{ value, label, icon string }

func themes() []option {
	return []option{{System, "System", "system"}, {Light, "Light", "sun"}, {Dark, "Dark", "moon"}}
}

// htmxConfig: nothing is evaluated, no page is kept in browser storage, and of the refusals only conflicts and faulty forms are shown.
const htmxConfig = `{"allowEval":false,"selfRequestsOnly":true,"includeIndicatorStyles":false,"historyCacheSize":0,"refreshOnHistoryMiss":true,` +
	`"responseHandling":[{"code":"204","swap":false},{"code":"[23]..","swap":true},{"code":"409|412|422","swap":true,"error":true},` +
	`{"code":"[45]..","swap":false,"error":true}]}`
