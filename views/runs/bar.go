package runs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
)

// countsOf are the statuses of the steps of a run, in the order of the bar: what is done, what went wrong, what goes on. A run does not
// tell running from queued, so both are shown as running.
func countsOf(r *models.Run) []models.StatusCount {
	return []models.StatusCount{
		{Status: models.Succeeded, Count: r.Succeeded},
		{Status: models.Failed, Count: r.Failed},
		{Status: models.Timeout, Count: r.Timeout},
		{Status: models.Cancelled, Count: r.Cancelled},
		{Status: models.Waiting, Count: r.Waiting},
		{Status: models.Running, Count: r.Active()},
	}
}

// segment is a part of a bar, as attributes of a rectangle.
type segment struct{ class, x, width string }

// segments divide a bar by counts. Whatever exists can be seen: no segment is thinner than two in a hundred.
func segments(counts []models.StatusCount) []segment {
	const thinnest = 2.0
	total, spare := 0, 100.0
	for _, c := range counts {
		total += c.Count
	}
	if total == 0 {
		return nil
	}
	for _, c := range counts {
		if share := 100 * float64(c.Count) / float64(total); c.Count > 0 && share < thinnest {
			spare -= thinnest
			total -= c.Count
		}
	}
	all, x := make([]segment, 0, len(counts)), 0.0
	for _, c := range counts {
		if c.Count == 0 {
			continue
		}
		width := max(thinnest, spare*float64(c.Count)/float64(max(total, 1)))
		all = append(all, segment{fill(c.Status), percent(x), percent(min(width, 100-x))})
		x += width
	}
	return all
}

// fill is the class of what is drawn for a status: a colour with a pattern of its own, so that it is not told by hue alone.
func fill(s models.Status) string { return "f-" + string(s) }

func percent(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(max(v, 0), 'f', 1, 64), ".0") + "%"
}

// said is what the bar says in words.
func said(counts []models.StatusCount) string {
	var words []string
	for _, c := range counts {
		if c.Count > 0 {
			words = append(words, fmt.Sprintf("%s %s", components.Number(c.Count), strings.ToLower(components.LookOf(c.Status).Label)))
		}
	}
	return strings.Join(words, ", ")
}
