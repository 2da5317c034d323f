// Package functions has the pages of what agents can be called for, their reasoners and skills: what each takes and gives, how it has
// done lately, and a form to try it. Its invariant: what the form starts is an execution like any other, with a page of its own.
package functions

import (
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/executions"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/nodes"
	"github.com/agentfield/agentfield/views/search"
	"github.com/agentfield/agentfield/views/values"
)

// ListPage is /reasoners: the functions of all nodes.
type ListPage struct {
	Frame   layout.Page
	Entries []Entry // those that the filter leaves
	All     int
	Node    string // node: only its functions
	Query   string // q: words that occur in the target, the description or a tag
}

// Entry is one function with the node that has it.
type Entry struct {
	NodeID   string
	State    nodes.State // of the node
	Function nodes.Function
}

// Target is the function as callers name it.
func (e Entry) Target() string { return e.NodeID + "." + e.Function.Name }

// Has reports whether every word occurs in what is known of the function.
func (e Entry) Has(words string) bool {
	in := strings.ToLower(e.Target() + " " + e.Function.Kind + " " + e.Function.Description + " " + strings.Join(e.Function.Tags, " "))
	for w := range strings.FieldsSeq(strings.ToLower(words)) {
		if !strings.Contains(in, w) {
			return false
		}
	}
	return true
}

// Href is the page of a function.
func Href(node, function string) string { return "/reasoners/" + url.PathEscape(node+"."+function) }

// ShowPage is /reasoners/{node}.{function}.
type ShowPage struct {
	Frame layout.Page
	Entry Entry
	Usage Usage
	Try   Try
	May   bool // the visitor may make executions
}

// Usage is how the function has done since an instant.
type Usage struct {
	Since                          string // as the address has it
	Of                             int
	Cut                            bool // only the newest executions of its node were looked at
	Succeeded, Failed, Open, Ended int
	P50, P95                       int64 // ms; 0: none succeeded
	Minutes                        float64
	Recent                         []*models.Execution
	Groups                         []Group
	Callers, Calls                 []Peer
}

// Group is a group of its failures.
type Group struct {
	ID, Message string
	Count       int
}

// Peer is a function that calls this one, or is called by it.
type Peer struct {
	NodeID, Function string
	Count            int
}

// Try is the form with which the function is called.
type Try struct {
	Input    values.Input
	Saved    *int64 // ms: what stands in it is a draft of then
	Key      string // of this attempt
	Wait     bool   // for the result, instead of going to the execution while it runs
	Session  string
	Actor    string
	Workflow string
	Webhook  string
	Problem  string // what kept it from being started; empty: nothing
}

// Fields are the names of the form beside the input.
const (
	FieldKey      = "key"
	FieldMode     = "mode" // sync or async
	FieldSession  = "session"
	FieldActor    = "actor"
	FieldWorkflow = "workflow"
	FieldWebhook  = "webhook"
)

// Fill sets the fields beside the input from what was typed.
func (t *Try) Fill(typed url.Values) {
	t.Wait = typed.Get(FieldMode) == "sync"
	t.Session, t.Actor, t.Workflow, t.Webhook = typed.Get(FieldSession), typed.Get(FieldActor), typed.Get(FieldWorkflow), typed.Get(FieldWebhook)
	t.Input.Fill(typed)
}

func (t Try) beside() bool {
	return t.Session+t.Actor+t.Workflow+t.Webhook != "" || t.Input.Problems[FieldWebhook]+t.Input.Problems[FieldWorkflow] != ""
}

// TryPath is where the form is sent.
func TryPath(node, function string) string { return Href(node, function) + "/try" }

// Linked is the page with the form filled, for a link.
func Linked(node, function string, input []byte) string {
	return Href(node, function) + "?input=" + base64.RawURLEncoding.EncodeToString(input)
}

func (p ShowPage) now() time.Time { return p.Frame.Now }

func (p ShowPage) href() string { return Href(p.Entry.NodeID, p.Entry.Function.Name) }

// executions is the list of its executions, narrowed by status.
func (p ShowPage) executions(status ...models.Status) string {
	return executions.Filter{Target: p.Entry.Target(), Statuses: status, Since: p.Usage.Since}.Href()
}

func (p ShowPage) group(g Group) string {
	return executions.Filter{Search: search.Typed{Text: search.GroupQuery(g.ID, p.Entry.Target())}}.Href()
}

// command is the call as it stands in the form.
func (p ShowPage) command() components.Command {
	mode := "execute/async/"
	if p.Try.Wait {
		mode = "execute/"
	}
	c := components.Command{Method: "POST", URL: p.Frame.BaseURL + "/api/v1/" + mode + p.Entry.Target()}
	for _, h := range []struct{ name, value string }{{"X-Session-ID", p.Try.Session}, {"X-Actor-ID", p.Try.Actor}, {"X-Workflow-ID", p.Try.Workflow}} {
		if h.value != "" {
			c.Headers = append(c.Headers, h.name+": "+h.value)
		}
	}
	c.Body = `{"input": ` + string(p.Try.Input.Shown())
	if p.Try.Webhook != "" {
		c.Body += `, "webhook": {"url": ` + components.Quoted(p.Try.Webhook) + `}`
	}
	c.Body += "}"
	return c
}

// rate is how often it was called, in the unit in which it can be read.
func (u Usage) rate() string {
	switch perMinute := float64(u.Of) / max(u.Minutes, 1); {
	case perMinute >= 1:
		return components.Decimal(perMinute) + " a minute"
	case perMinute*60 >= 1:
		return components.Decimal(perMinute*60) + " an hour"
	}
	return "less than one an hour"
}

// success is the share of what has ended well, in percent.
func (u Usage) success() string {
	ended := u.Succeeded + u.Failed
	if ended == 0 {
		return "–"
	}
	return components.Decimal(float64(u.Succeeded)*100/float64(ended)) + " %"
}

func span(ms int64) string {
	if ms == 0 {
		return "–"
	}
	return components.Span(time.Duration(ms) * time.Millisecond)
}

// times are the stretches of time to look at.
func times() []components.Option {
	return []components.Option{{Value: "1h", Label: "Last hour"}, {Value: "24h", Label: "Last 24 h"}, {Value: "7d", Label: "Last 7 days"}}
}
