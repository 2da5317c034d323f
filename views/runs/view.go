package runs

import (
	"slices"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
)

// The ways to look at a run.
const (
	Graph    = "graph"
	Timeline = "timeline"
	Tree     = "tree"
)

// GraphUpTo is the largest run that opens as a graph.
const GraphUpTo = 200

// View is what the URL of a run says.
type View struct {
	Run      string          // its id, as in the path
	Kind     string          // view: graph, timeline or tree
	Chosen   bool            // the URL has the view; else it followed from the size of the run
	Node     string          // node: the chosen execution
	Focus    string          // focus: only what lies below this execution
	Open     []string        // open: folds that were opened
	Closed   []string        // closed: executions whose calls were folded
	Statuses []models.Status // status: only these
	Query    string          // q: words in id, target, status or error
	Critical bool            // crit=1: the steps that the length of the run depends on
	From     int             // from: the first row of a page of rows
}

func (v View) terms() []components.Term {
	all := []components.Term{
		{Key: "open", Value: strings.Join(v.Open, ",")}, {Key: "closed", Value: strings.Join(v.Closed, ",")}, {Key: "focus", Value: v.Focus}, {Key: "status", Value: joined(v.Statuses)}, {Key: "q", Value: v.Query},
	}
	if v.Chosen {
		all = slices.Insert(all, 0, components.Term{Key: "view", Value: v.Kind})
	}
	if v.Critical {
		all = append(all, components.Term{Key: "crit", Value: "1"})
	}
	if v.From > 0 {
		all = append(all, components.Term{Key: "from", Value: strconv.Itoa(v.From)})
	}
	return components.Given(append(all, components.Term{Key: "node", Value: v.Node})...)
}

// Href is the page in this state.
func (v View) Href() string { return components.Address("/runs/"+v.Run, v.terms()...) }

// relative is the page in this state as a link on the run's own page, of which there may be hundreds.
func (v View) relative() string {
	if query := strings.TrimPrefix(v.Href(), "/runs/"+v.Run); query != "" {
		return query
	}
	return "?"
}

// nodes is what stands before an execution's id in the links that choose it.
func (v View) nodes() string {
	v.Node = ""
	if query := v.relative(); query != "?" {
		return query + "&node="
	}
	return "?node="
}

func (v View) as(kind string) View {
	v.Kind, v.Chosen, v.From = kind, true, 0
	return v
}

// rows is the page of rows that begins with this one.
func (v View) rows(from int) View {
	v.Chosen, v.From = true, from
	return v
}

func (v View) choosing(node string) View {
	v.Node = node
	return v
}

func (v View) within(focus string) View {
	v.Focus, v.From = focus, 0
	return v
}

func (v View) toggleCritical() View {
	v.Critical = !v.Critical
	return v
}

func (v View) only(statuses ...models.Status) View {
	v.Statuses, v.From = statuses, 0
	return v
}

func (v View) unfiltered() View {
	v.Statuses, v.Query, v.From = nil, "", 0
	return v
}

func (v View) filtered() bool { return len(v.Statuses) > 0 || v.Query != "" }

// opening is the view with a fold opened; it takes the place of what was open of it before.
func (v View) opening(f models.Fold) View {
	without := func(list []string, entry string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(e string) bool { return e == entry })
	}
	v.Open = append(without(v.Open, f.Was), f.Open)
	v.Closed = without(v.Closed, f.Open)
	return v
}

// closing is the view with the calls of an item folded away.
func (v View) closing(f models.Fold) View {
	v.Open = slices.DeleteFunc(slices.Clone(v.Open), func(e string) bool { return e == f.Was || e == f.Close })
	v.Closed = append(slices.Clone(v.Closed), f.Close)
	return v
}

func (v View) folded() bool { return len(v.Open)+len(v.Closed) > 0 }

// unfolded is the view as it opens by itself.
func (v View) unfolded() View {
	v.Open, v.Closed = nil, nil
	return v
}

func (v View) tabs() []components.Tab {
	var all []components.Tab
	for _, t := range []struct{ kind, label string }{{Graph, "Graph"}, {Timeline, "Timeline"}, {Tree, "Tree"}} {
		all = append(all, components.Tab{Label: t.label, Href: v.as(t.kind).Href(), Current: v.Kind == t.kind})
	}
	return all
}

func lower(label string) string { return strings.ToLower(label) }
