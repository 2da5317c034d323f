// Package bulk holds the pages on which many executions or runs are acted upon at once: what will happen, before, and how far it has come,
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

// Typed is the number above which it has to be typed to confirm.
const Typed = 100

// Plan is what would be done.
type Plan struct {
	Frame    layout.Page
	List     string // executions or runs
	Action   string // cancel or rerun
	Query    string // of the list
	Total    int
	Steps    int // executions of the runs
	Statuses map[models.Status]int
	Targets  map[string]int
	Excluded map[string]int // reason → how many
	First    []Row
	Cut      bool // the filter finds more than the Limit of one job
	Limit    int
	Problem  string
}

// Row is one of those that it would be done to.
type Row struct {
	ID               string
	Status           models.Status
	NodeID, Function string
	Why              string
	Steps            int
	CreatedAt        int64 // ms
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
		parts = append(parts, components.Plural(e.n, one(p.List))+" "+e.name)
	}
	return strings.Join(parts, ", ")
}

func (p Plan) back() string { return address(p.List, p.Query) }

func address(list, query string) string { return strings.TrimSuffix("/"+list+"?"+query, "?") }

// one is the word for one row of a list.
func one(list string) string { return strings.TrimSuffix(list, "s") }

// title names what is done, and to how many.
func title(action, list string, n int) string {
	if action == "cancel" {
		return "Cancel " + components.Plural(n, one(list))
	}
	if list == "runs" {
		return "Repeat " + components.Plural(n, one(list))
	}
	return "Run " + components.Plural(n, one(list)) + " again"
}

func (p Plan) title() string { return title(p.Action, p.List, p.Total) }

// consequence says what the button does.
func (p Plan) consequence() string {
	switch {
	case p.Action == "cancel" && p.List == "runs":
		return "Everything in them that has not ended ends as cancelled, whatever called it. Agents that work on something are told; what they " +
			"have done already stays done. This cannot be undone."
	case p.List == "runs":
		return "The execution that each began with is made again with the same input, as a run of its own that names the one it repeats; what it " +
			"calls is called again. Webhooks are not sent again."
	case p.Action == "cancel":
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

func (p Progress) title() string { return title(p.Job.Action, p.Job.List, p.Job.Total) }

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

func (p Progress) back() string { return address(p.Job.List, p.Job.Query) }

func itoa(n int) string { return strconv.Itoa(n) }

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
