package workflow

import (
	"fmt"
	"strings"

	"github.com/agentfield/agentfield/models"
)

// Explain tells a run in words that are the same for the same run: why it has not ended or why it failed, and where its time went.
// now is in ms.
func Explain(g *Graph, spells Spells, now int64) models.RunStory {
	if len(g.Nodes) == 0 {
		return models.RunStory{}
	}
	return models.RunStory{Reason: reason(g, now), Summary: summary(g, spells, now)}
}

func reason(g *Graph, now int64) string {
	if blocking := g.Find(last(BlockedBy(g))); blocking != nil {
		return blocking.blocks(now)
	}
	failing := g.Find(last(Failure(g)))
	if failing == nil {
		return ""
	}
	verb := "failed"
	if failing.Status == models.Timeout {
		verb = "exceeded its limit"
	}
	if failing.ErrorMessage == nil || *failing.ErrorMessage == "" {
		return fmt.Sprintf("Failed: %s %s", failing.Target(), verb)
	}
	return fmt.Sprintf("Failed: %s %s: %s", failing.Target(), verb, short(*failing.ErrorMessage, 200))
}

func (n *Node) blocks(now int64) string {
	target, since := n.Target(), Lasted(now-n.since())
	switch n.Status { //nolint:exhaustive // nothing that has ended blocks
	case models.Waiting:
		return fmt.Sprintf("Blocked: %s has been waiting for approval for %s", target, since)
	case models.Paused:
		return fmt.Sprintf("Paused: %s has been held back by an operator for %s", target, since)
	case models.Pending:
		return fmt.Sprintf("Pending: %s has been without a healthy instance of %s for %s", n.Function, n.NodeID, since)
	case models.Queued:
		return fmt.Sprintf("Queued: %s has been waiting for a place for %s", target, since)
	}
	return fmt.Sprintf("Running: %s has been at work for %s", target, since)
}

// short is the first line of a text, cut to a number of characters.
func short(text string, most int) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if runes := []rune(line); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return line
}

// spent is how the length of a run divides among what it depended on.
type spent struct {
	waiting  int64
	running  map[string]int64 // by function
	retries  int
	queue    string // the node whose queue held something up longest
	queueFor int64
}

func summary(g *Graph, spells Spells, now int64) string {
	t := Timeline(g, spells, now)
	s := spentOn(g, t)
	words := []string{"The run took " + Lasted(t.Span)}
	if !t.Ended {
		words[0] = "The run has been on its way for " + Lasted(t.Span)
	}
	var shares []string
	if share := percent(s.waiting, t.Span); share > 0 {
		shares = append(shares, fmt.Sprintf("%d %% was waiting for people", share))
	}
	if function, share := s.busiest(t.Span); share > 0 {
		shares = append(shares, fmt.Sprintf("%d %% in %s", share, function))
	}
	if len(shares) > 0 {
		words = append(words, strings.Join(shares, ", "))
	}
	switch {
	case s.retries == 1:
		words = append(words, "1 retry")
	case s.retries > 1:
		words = append(words, fmt.Sprintf("%d retries", s.retries))
	}
	if s.queueFor >= 1000 {
		words = append(words, fmt.Sprintf("slowest wait: queue of %s, %s", s.queue, Lasted(s.queueFor)))
	}
	return strings.Join(words, "; ") + "."
}

// spentOn divides the time of what the length of the run depended on: what a call took is not counted again for its caller.
func spentOn(g *Graph, t *models.Timeline) spent {
	s := spent{running: map[string]int64{}}
	for i, n := range g.Nodes {
		row := t.Rows[i]
		s.retries += max(n.Attempt-1, 0)
		for _, span := range row.Spans {
			if took := span.To - span.From; span.Kind == models.SpanQueued && took > s.queueFor {
				s.queue, s.queueFor = n.NodeID, took
			}
			if !row.Critical {
				continue
			}
			own := span.To - span.From - inCalls(n, t, span)
			switch span.Kind { //nolint:exhaustive // the others are told otherwise
			case models.SpanWaiting:
				s.waiting += own
			case models.SpanRunning:
				s.running[n.Function] += own
			}
		}
	}
	return s
}

// inCalls is how much of a span passed in the calls that it depended on. Those follow one another, so they are never counted twice.
func inCalls(n *Node, t *models.Timeline, span models.Span) int64 {
	var total int64
	for _, c := range n.Children {
		spans := t.Rows[c.Index].Spans
		if !t.Rows[c.Index].Critical || len(spans) == 0 {
			continue
		}
		from, to := max(spans[0].From, span.From), min(spans[len(spans)-1].To, span.To)
		total += max(to-from, 0)
	}
	return total
}

func (s *spent) busiest(span int64) (function string, share int64) {
	var most int64
	for name, took := range s.running {
		if took > most || took == most && name < function {
			function, most = name, took
		}
	}
	return function, percent(most, span)
}

func percent(part, whole int64) int64 {
	if whole <= 0 {
		return 0
	}
	return (part*100 + whole/2) / whole
}

// Lasted writes a duration in ms for people, with the two largest units that matter.
func Lasted(ms int64) string {
	ms = max(ms, 0)
	seconds := ms / 1000
	switch {
	case ms < 1000:
		return fmt.Sprintf("%d ms", ms)
	case seconds < 60:
		return fmt.Sprintf("%d.%d s", seconds, ms%1000/100)
	case seconds < 3600:
		return fmt.Sprintf("%d min %d s", seconds/60, seconds%60)
	case seconds < 24*3600:
		return fmt.Sprintf("%d h %d min", seconds/3600, seconds%3600/60)
	}
	return fmt.Sprintf("%d d %d h", seconds/(24*3600), seconds%(24*3600)/3600)
}

// count writes the counts of statuses in the order of life.
func count(counts map[models.Status]int) string {
	var words []string
	for _, status := range models.Statuses {
		if n := counts[status]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, status))
		}
	}
	return strings.Join(words, ", ")
}
