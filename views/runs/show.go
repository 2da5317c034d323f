package runs

import (
	"fmt"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/executions"
	"github.com/agentfield/agentfield/views/layout"
)

// ShowPage is one run. Of the three drawings it has the one of its view.
type ShowPage struct {
	Frame     layout.Page
	Run       *models.Run
	View      View
	Story     models.RunStory
	News      models.RunNews // since the visitor last looked
	Agents    int
	Depth     int
	Total     int  // executions that were read
	Truncated bool // there are more
	Matches   int  // executions that the filter finds
	Picture   *models.Picture
	Clock     *Clock
	Outline   *Outline
	Chosen    *Chosen
	CanCancel bool
	Paused    int // executions that an operator holds back
	Pausable  int // those that could be
}

// Chosen is the execution that the panel shows.
type Chosen struct {
	Page executions.ShowPage
	Item *models.Item // as it is drawn; nil outside of the graph
	Deep bool         // it has calls of its own, so that it can be looked at alone
}

func (p ShowPage) now() time.Time { return p.Frame.Now }

// size is the run in one line.
func (p ShowPage) size() string {
	parts := []string{components.Plural(p.Run.Total, "step"), components.Plural(p.Agents, "agent")}
	if p.Depth > 0 {
		parts = append(parts, fmt.Sprintf("%d deep", p.Depth+1))
	}
	return strings.Join(parts, " · ")
}

// counts are the statuses of the steps, each a link to those steps alone.
func (p ShowPage) counts() []models.StatusCount {
	var all []models.StatusCount
	for _, c := range p.split() {
		if c.Count > 0 {
			all = append(all, c)
		}
	}
	return all
}

// split are the totals of the run with those that are paused apart: its record counts them among what is on its way.
func (p ShowPage) split() []models.StatusCount {
	all := countsOf(p.Run)
	for i := range all {
		if all[i].Status == models.Running {
			paused := min(p.Paused, all[i].Count)
			all[i].Count -= paused
			all = append(all, models.StatusCount{Status: models.Paused, Count: paused})
		}
	}
	return all
}

// same reports whether exactly this status is asked for.
func (v View) same(s models.Status) bool {
	return len(v.Statuses) > 0 && v.Statuses[0] == statusesOf(s)[0]
}

// statusesOf are the statuses behind a number of the bar.
func statusesOf(s models.Status) []models.Status {
	if s == models.Running {
		return []models.Status{models.Running, models.Queued, models.Pending}
	}
	return []models.Status{s}
}

// family is the class of the colours of the run.
func (p ShowPage) family() string { return components.LookOf(p.Run.Status).Family }

// running is how many executions a cancellation would end.
func (p ShowPage) running() int { return p.Run.Active() + p.Run.Waiting }

// news says what has happened since the visitor last looked.
func (p ShowPage) news() string {
	var parts []string
	if p.News.Called > 0 {
		parts = append(parts, components.Plural(p.News.Called, "new step"))
	}
	if p.News.Waiting > 0 {
		parts = append(parts, components.Number(p.News.Waiting)+" began to wait for a person")
	}
	if len(p.News.Ended) > 0 {
		parts = append(parts, said(p.News.Ended))
	}
	return strings.Join(parts, ", ")
}

// toNews leads to the one of the news that somebody has to look at, if there is one.
func (p ShowPage) toNews() (href, words string) {
	v := p.View
	switch {
	case p.News.Asks != nil:
		v.Node, words = p.News.Asks.ID, "Show who waits"
	case p.News.Failed != nil:
		v.Node, words = p.News.Failed.ID, "Show the first that failed"
	default:
		return "", ""
	}
	return v.Href(), words
}

// found says what the filter has found.
func (p ShowPage) found() string {
	return fmt.Sprintf("%s of %s", components.Number(p.Matches), components.Plural(p.Total, "step"))
}

// export is the run in another form.
type export struct{ label, hint, href string }

func (p ShowPage) exports() []export {
	drawn := p.View
	drawn.Run += "/dag.svg"
	return []export{
		{"SVG", "The graph as it is drawn, for documents", drawn.Href()},
		{"Mermaid", "For Markdown", path(p.Run) + "/dag.mmd"},
		{"Text", "For terminals and chat", path(p.Run) + "/dag.txt"},
		{"JSON", "As programs read it", "/api/v1/workflows/" + p.Run.ID + "/dag"},
	}
}

// stepTook is how long a step took, or has gone on so far; since is 0 once it has ended.
func stepTook(s *models.Step, now time.Time) (took time.Duration, since int64) {
	from := s.CreatedAt
	if s.StartedAt != nil {
		from = *s.StartedAt
	}
	if s.FinishedAt != nil {
		return time.Duration(max(*s.FinishedAt-from, 0)) * time.Millisecond, 0
	}
	return max(components.Since(from, now), 0), from
}

// StepTook is the same in words.
func StepTook(s *models.Step, now time.Time) string {
	took, _ := stepTook(s, now)
	return components.Span(took)
}

// badge is a small mark of a step with its meaning.
type badge struct{ icon, text, title string }

func badges(s *models.Step) []badge {
	var all []badge
	if s.Attempt > 1 {
		all = append(all, badge{"retrying", fmt.Sprint(s.Attempt), fmt.Sprintf("attempt %d", s.Attempt)})
	}
	if s.Rounds > 0 {
		title := "asked a person"
		if s.Rounds > 1 {
			title = fmt.Sprintf("asked a person in %d rounds", s.Rounds)
		}
		all = append(all, badge{"person", "", title})
	}
	if s.HasWebhook {
		all = append(all, badge{"webhook", "", "announces its end to a webhook"})
	}
	return all
}

// spoken is what a screen reader says of a step.
func spoken(s *models.Step, calls int, now time.Time) string {
	took, _ := stepTook(s, now)
	parts := []string{s.Function, strings.ToLower(components.LookOf(s.Status).Label), components.Span(took)}
	for _, b := range badges(s) {
		parts = append(parts, b.title)
	}
	if calls > 0 {
		parts = append(parts, components.Plural(calls, "call"))
	}
	return strings.Join(parts, ", ")
}
