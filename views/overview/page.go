// Package overview holds the first page: what needs a person, what happens now, what failed and what ran last. Its invariant: every
// number is a link to the list it was counted from.
package overview

import (
	"net/url"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/executions"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/search"
	"github.com/agentfield/agentfield/views/webhooks"
)

// Page is the overview.
type Page struct {
	Frame    layout.Page
	Counts   Counts
	Groups   []Group             // of failures, the largest first; a handful
	Failures []*models.Execution // failed and timed out, newest first; a handful
	Recent   []*models.Execution // newest first; a handful
	Runs     []*models.Run       // the same of runs
	Start    Start
	Since    int64 // ms: what the counts and groups of failures begin with
}

// Group is failures that differ only in details.
type Group struct {
	ID, NodeID, Function string
	Count                int
	First, Last          int64 // ms
	Message              string
}

// list is the list of the failures in a group.
func (g Group) list() string {
	return executions.Filter{Search: search.Typed{Text: g.query()}}.Href()
}

func (g Group) query() string { return search.GroupQuery(g.ID, g.NodeID+"."+g.Function) }

// rerun is the page on which all of them can be run again.
func (g Group) rerun() string {
	return "/bulk/new?" + url.Values{"action": {"rerun"}, "q": {g.query()}}.Encode()
}

// fresh reports whether the group was never seen before the time that the page looks at.
func (p Page) fresh(g Group) bool { return p.Since > 0 && g.First >= p.Since }

// Counts are the state of the whole at a glance.
type Counts struct {
	Running, Queued, Pending, Waiting int
	Failed                            int    // failed or timed out within FailedWithin
	FailedWithin                      string // as the filter "since" writes it, such as 24h
	Webhooks                          int    // given up within FailedWithin
	MoreWebhooks                      bool   // there are more than were counted
	OldestQueuedAt                    *int64 // ms; nil: nothing is queued
	FinishedLastMinute                int
	Limit                             int // a count of this size means this many or more
}

// Start is how far an empty server has come. Once there is an execution the page shows what happens instead.
type Start struct {
	Nodes     int
	Executed  bool   // there is an execution
	Target    string // a registered function, for the command; may be empty
	Announced bool   // a webhook was delivered
}

func (p Page) now() time.Time { return p.Frame.Now }

// number writes a count that may have been cut off.
func (c Counts) number(n int) string {
	if c.Limit > 0 && n >= c.Limit {
		return components.Number(c.Limit) + "+"
	}
	return components.Number(n)
}

// need is something a person should look at.
type need struct {
	family, icon string
	count        int
	words        string
	detail       string
	href         string
}

func (p Page) needs() []need {
	c := p.Counts
	var all []need
	if c.Waiting > 0 {
		all = append(all, need{"st-wait", "waiting", c.Waiting, "waiting for a decision", "The agents go on when somebody decides.", "/approvals"})
	}
	if c.Pending > 0 {
		all = append(all, need{
			"st-idle", "pending", c.Pending, "pending: no healthy instance of the agent",
			"They start by themselves when one reports in.", list(models.Pending),
		})
	}
	if c.Failed > 0 {
		f := executions.Filter{Statuses: []models.Status{models.Failed, models.Timeout}, Since: c.FailedWithin}
		all = append(all, need{"st-bad", "failed", c.Failed, "failed or timed out in the last " + c.within(), lastError(p.Failures), f.Href()})
	}
	if c.Webhooks > 0 {
		words := "webhooks given up in the last " + c.within()
		if c.MoreWebhooks {
			words = "or more " + words
		}
		all = append(all, need{
			"st-bad", "webhook", c.Webhooks, words, "Their receivers do not know what happened. Look why, and send them again.",
			webhooks.Filter{State: "failed", Since: c.FailedWithin}.Href(),
		})
	}
	return all
}

// within is FailedWithin as people write it: 24 h.
func (c Counts) within() string {
	unit := strings.TrimLeft(c.FailedWithin, "0123456789")
	return strings.TrimSuffix(c.FailedWithin, unit) + " " + unit
}

func lastError(failures []*models.Execution) string {
	if len(failures) == 0 || failures[0].ErrorMessage == nil {
		return ""
	}
	return "Latest: " + components.FirstLine(*failures[0].ErrorMessage)
}

func list(statuses ...models.Status) string { return executions.Filter{Statuses: statuses}.Href() }

// stat is one number of the row "Now".
type stat struct {
	status models.Status
	label  string
	count  int
	hint   string
}

func (p Page) stats() []stat {
	c := p.Counts
	return []stat{
		{models.Running, "Running", c.Running, "at work now"},
		{models.Queued, "Queued", c.Queued, "for a free worker"},
		{models.Pending, "Pending", c.Pending, "for a healthy agent"},
		{models.Waiting, "Waiting", c.Waiting, "for a person"},
	}
}

// lastMinute is the list of what was accepted within the last minutes and has ended: where the throughput can be seen.
func lastMinute() string {
	return executions.Filter{
		Statuses: []models.Status{models.Succeeded, models.Failed, models.Timeout, models.Cancelled}, Since: "1m",
	}.Href()
}

func why(e *models.Execution) string {
	if e.ErrorMessage != nil {
		return components.FirstLine(*e.ErrorMessage)
	}
	return ""
}

// checks are the steps of an empty server.
func (p Page) register() string {
	return components.Command{
		Method: "POST", URL: p.Frame.BaseURL + "/api/v1/nodes/register",
		Body: `{"id": "hello-world", "base_url": "http://127.0.0.1:9000", "reasoners": [{"id": "greet"}]}`,
	}.Curl()
}

func (p Page) execute() string { return components.FirstCall(p.Frame.BaseURL, p.Start.Target) }

func (p Page) announce() string {
	target := p.Start.Target
	if target == "" {
		target = "hello-world.greet"
	}
	return components.Command{
		Method: "POST", URL: p.Frame.BaseURL + "/api/v1/execute/async/" + target,
		Body: `{"input": {}, "webhook": {"url": "https://example.com/hook", "secret": "change-me"}}`,
	}.Curl()
}
