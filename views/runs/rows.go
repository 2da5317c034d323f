package runs

import (
	"fmt"
	"strconv"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
)

// Row is a step in a timeline or a tree.
type Row struct {
	Step  *models.Step
	Level int // from 1
	Calls int // executions it has called
	Spans []models.Span
	Crit  bool
	Path  bool // on the path that the page shows
}

// Clock is the timeline of a run: one row for each step, each parent before what it called.
type Clock struct {
	From    int64 // ms since 1970
	Span    int64 // ms
	Rows    []Row // of the page from View.From on
	Total   int   // rows in all
	Virtual bool  // too many for one page: the script draws them from /runs/{id}/lanes
	Version int64 // changes with the run
}

// Outline is the tree of a run as a list.
type Outline struct {
	Rows  []Row // of the page from View.From on
	Total int
}

// tick is a mark of the time axis.
type tick struct{ x, label string }

// ticks are at round times, four to seven of them, each with room for its label.
func (c *Clock) ticks() []tick {
	if c.Span <= 0 {
		return []tick{{"0%", "0"}}
	}
	step := round(c.Span / 7)
	var all []tick
	for at := int64(0); at <= c.Span-max(step/3, c.Span/10); at += step {
		all = append(all, tick{percent(100 * float64(at) / float64(c.Span)), mark(at)})
	}
	return all
}

// round is the next round duration in ms, as people divide time.
func round(ms int64) int64 {
	rounds := []int64{
		1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000,
		3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000,
	}
	for _, r := range rounds {
		if ms <= r {
			return r
		}
	}
	const day = 86_400_000
	return (ms/day + 1) * day
}

func mark(ms int64) string {
	if ms == 0 {
		return "0"
	}
	return components.Span(time.Duration(ms) * time.Millisecond)
}

// bar is a stretch of a row, as attributes of a rectangle.
type bar struct{ class, x, width string }

// thinnestBar is the least share of the width, in percent, that a stretch is drawn with, so that it can be seen.
const thinnestBar = 0.3

func (c *Clock) bars(r Row) []bar {
	all := make([]bar, 0, len(r.Spans))
	for _, s := range r.Spans {
		x := 100 * float64(s.From) / float64(max(c.Span, 1))
		width := max(100*float64(s.To-s.From)/float64(max(c.Span, 1)), thinnestBar)
		all = append(all, bar{spanClass(s.Kind), thin(min(x, 100-thinnestBar)), thin(width)})
	}
	return all
}

func thin(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) + "%" }

func spanClass(k models.SpanKind) string {
	switch k {
	case models.SpanQueued:
		return "t-queue"
	case models.SpanWaiting:
		return "t-wait"
	case models.SpanPaused:
		return "t-pause"
	case models.SpanRunning:
	}
	return "t-run"
}

// rowClass are the classes of a row.
func (p ShowPage) rowClass(r Row, base string) string {
	class := base + " " + components.LookOf(r.Step.Status).Family + " is-" + string(r.Step.Status)
	if r.Crit {
		class += " crit"
	}
	if r.Path {
		class += " on-path"
	}
	return class
}

// lanesHref is where the script gets all rows of the timeline.
func (p ShowPage) lanesHref() string {
	v := View{Run: p.Run.ID + "/lanes", Statuses: p.View.Statuses, Query: p.View.Query, Focus: p.View.Focus, Critical: p.View.Critical}
	return v.Href()
}

// pages leads from one page of rows to the next.
type pages struct {
	text       string
	prev, next string // empty: there is none
}

func (p ShowPage) pages(shown, total, size int) pages {
	from := p.View.From
	out := pages{text: fmt.Sprintf("Steps %s to %s of %s", components.Number(from+1), components.Number(from+shown), components.Number(total))}
	if from > 0 {
		out.prev = p.View.rows(max(0, from-size)).Href()
	}
	if from+shown < total {
		out.next = p.View.rows(from + size).Href()
	}
	return out
}

// How many rows of a large run one page holds, as a tree and, for those without script, as a timeline.
const (
	RowsPerPage  = 200
	LanesPerPage = 100
)

// rowWhy is what went wrong with a step, or what holds it up.
func rowWhy(s *models.Step) string {
	if s.ErrorMessage != nil {
		return components.FirstLine(*s.ErrorMessage)
	}
	if !s.Status.Terminal() {
		return components.FirstLine(value(s.StatusReason))
	}
	return ""
}
