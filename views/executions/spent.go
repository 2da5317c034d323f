package executions

import (
	"fmt"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
)

// stretch is a part of an execution's life that was spent in one way.
type stretch struct {
	way      way
	from, to int64 // ms
}

// way is how time is spent: in line, at work, or with a person.
type way int

const (
	inLine way = iota
	atWork
	withPerson
	heldBack
)

func wayOf(s models.Status) way {
	switch s {
	case models.Running:
		return atWork
	case models.Waiting:
		return withPerson
	case models.Paused:
		return heldBack
	case models.Pending, models.Queued, models.Succeeded, models.Failed, models.Timeout, models.Cancelled:
		return inLine
	}
	return inLine
}

// stretches follows the statuses through the event log, up to the end or, without one, up to now.
func stretches(e *models.Execution, events []models.Event, now time.Time) []stretch {
	end := now.UnixMilli()
	if e.FinishedAt != nil {
		end = *e.FinishedAt
	}
	current := stretch{way: inLine, from: e.CreatedAt}
	var all []stretch
	for _, event := range events {
		status, ok := entered(event.Kind)
		if !ok || status.Terminal() {
			continue
		}
		next := wayOf(status)
		if next == current.way {
			continue
		}
		current.to = event.At
		all = append(all, current)
		current = stretch{way: next, from: event.At}
	}
	current.to = max(end, current.from)
	all = append(all, current)
	return longEnough(all)
}

// entered is the status that an execution took with an event. Two kinds are named after their cause: both put it back into the queue.
func entered(kind string) (models.Status, bool) {
	switch name := strings.TrimPrefix(kind, "execution."); name {
	case "attempt_failed", "redelivered":
		return models.Queued, true
	default:
		return models.ParseStatus(name)
	}
}

// longEnough drops what lasted no time at all.
func longEnough(all []stretch) []stretch {
	var kept []stretch
	for _, s := range all {
		if s.to > s.from {
			kept = append(kept, s)
		}
	}
	return kept
}

// bar places a stretch in the width of the whole, in percent.
func (s stretch) bar(whole []stretch) (x, width string) {
	from, to := whole[0].from, whole[len(whole)-1].to
	total := float64(to - from)
	return fmt.Sprintf("%.3f%%", 100*float64(s.from-from)/total), fmt.Sprintf("%.3f%%", 100*float64(s.to-s.from)/total)
}

// sums adds up each way, in the order of life.
func sums(all []stretch) []sum {
	total := map[way]int64{}
	for _, s := range all {
		total[s.way] += s.to - s.from
	}
	var list []sum
	for _, w := range []way{inLine, atWork, withPerson, heldBack} {
		if total[w] > 0 {
			list = append(list, sum{w, time.Duration(total[w]) * time.Millisecond})
		}
	}
	return list
}

type sum struct {
	way  way
	took time.Duration
}

func (w way) label() string {
	switch w {
	case inLine:
		return "In line"
	case atWork:
		return "At work"
	case withPerson:
		return "With a person"
	case heldBack:
		return "Paused"
	}
	return ""
}

// fill is the pattern or colour of a way: it is told by pattern as well as by hue.
func (w way) fill() string {
	switch w {
	case atWork:
		return "fill-work"
	case withPerson:
		return "fill-person"
	case inLine, heldBack:
		return "fill-line"
	}
	return ""
}
