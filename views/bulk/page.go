// Package bulk holds the pages on which many executions are acted upon at once: what will happen, before, and how far it has come,
// after. Their invariant: nothing happens that was not said and counted before.
package bulk

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/layout"
)

// Typed is the number of executions above which it has to be typed to confirm.
const Typed = 100

// Plan is what would be done.
type Plan struct {
	Frame    layout.Page
	Action   string // cancel or rerun
	Query    string // of the list
	Total    int
	Statuses map[models.Status]int
	Targets  map[string]int
	Excluded map[string]int // reason → executions
	First    []*models.Execution
	Cut      bool // the filter finds more than the Limit of one job
	Limit    int
	Problem  string
}

// Progress is a job under way, or over.
type Progress struct {
	Frame   layout.Page
	Job     *models.BulkJob
	By      string
	May     bool              // the visitor may stop it
	Trouble []models.BulkItem // failed or left out, some
	Made    []models.BulkItem // done, some
}

type counted struct {
	name string
	n    int
}

func (p Plan) statuses() []models.Status {
	return slices.DeleteFunc(slices.Clone(models.Statuses), func(s models.Status) bool { return p.Statuses[s] == 0 })
}

func largest(of map[string]int, most int) []counted {
	var all []counted
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, counted{name, of[name]})
	}
	slices.SortStableFunc(all, func(a, b counted) int { return cmp.Compare(b.n, a.n) })
	return all[:min(len(all), most)]
}

// leftOut says how many are excluded, and why.
func (p Plan) leftOut() string {
	var parts []string
	for _, e := range largest(p.Excluded, len(p.Excluded)) {
		parts = append(parts, components.Plural(e.n, "execution")+" "+e.name)
	}
	return strings.Join(parts, ", ")
}

func (p Plan) back() string {
	if p.Query == "" {
		return "/executions"
	}
	return "/executions?" + p.Query
}

func (p Plan) title() string {
	if p.Action == "cancel" {
		return "Cancel " + components.Plural(p.Total, "execution")
	}
	return "Run " + components.Plural(p.Total, "execution") + " again"
}

// consequence says what the button does.
func (p Plan) consequence() string {
	if p.Action == "cancel" {
		return "Each of them ends as cancelled. Agents that work on one are told; what they have done already stays done. This cannot be undone."
	}
	return "Each makes a new execution with the same input, in a run of its own, that names the one it repeats. Whatever the agents do, they do " +
		"again. Webhooks are not sent again."
}

// pace says how long it takes, roughly.
func (p Plan) pace() string {
	return "One after the other, at most a hundred a second; the queue's limits hold. You can stop it at any time."
}

func (p Plan) typed() bool { return p.Total > Typed }

func (p Plan) filter() string {
	text, err := url.QueryUnescape(p.Query)
	if err != nil || text == "" {
		return "everything"
	}
	return text
}

func (p Progress) tried() int { return p.Job.Done + p.Job.Skipped + p.Job.Failed }

func (p Progress) percent() int {
	if p.Job.Total == 0 {
		return 100
	}
	return p.tried() * 100 / p.Job.Total
}

func (p Progress) title() string {
	if p.Job.Action == "cancel" {
		return "Cancel " + components.Plural(p.Job.Total, "execution")
	}
	return "Run " + components.Plural(p.Job.Total, "execution") + " again"
}

// state is where the job stands, in words.
func (p Progress) state() string {
	switch {
	case p.Job.Status == "done" && p.Job.Failed == 0:
		return "Done."
	case p.Job.Status == "done":
		return "Done, with " + components.Plural(p.Job.Failed, "failure") + "."
	case p.Job.Status == "stopped":
		return "Stopped, with " + components.Number(p.Job.Left()) + " not tried."
	case p.Job.StopAskedAt != nil:
		return "Stopping after the one at hand."
	case p.Job.Status == "queued" && p.tried() == 0:
		return "About to begin."
	}
	return "At work: " + components.Number(p.tried()) + " of " + components.Number(p.Job.Total) + "."
}

func (p Progress) family() string {
	switch {
	case !p.Job.Over():
		return "st-run"
	case p.Job.Failed > 0:
		return "st-bad"
	case p.Job.Status == "stopped":
		return "st-idle"
	}
	return "st-ok"
}

func (p Progress) back() string {
	if p.Job.Query == "" {
		return "/executions"
	}
	return "/executions?" + p.Job.Query
}

func itoa(n int) string { return strconv.Itoa(n) }

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
