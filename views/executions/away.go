package executions

import (
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
)

// Away is what has happened since somebody last looked.
type Away struct {
	Since  int64          // ms
	Events []models.Event // oldest first, at least one
}

// words say it in half a sentence: the statuses in their order, then how much was said.
func (a Away) words() string {
	var statuses []string
	notes, reports := 0, 0
	for _, e := range a.Events {
		switch status, ok := entered(e.Kind); {
		case ok:
			statuses = append(statuses, strings.ToLower(components.LookOf(status).Label))
		case strings.HasSuffix(e.Kind, ".note"):
			notes++
		case strings.HasSuffix(e.Kind, ".progress"):
			reports++
		}
	}
	var parts []string
	if len(statuses) > 6 {
		statuses = append([]string{"…"}, statuses[len(statuses)-6:]...)
	}
	if len(statuses) > 0 {
		parts = append(parts, strings.Join(statuses, " → "))
	}
	if notes > 0 {
		parts = append(parts, components.Plural(notes, "note"))
	}
	if reports > 0 {
		parts = append(parts, components.Plural(reports, "progress report"))
	}
	if len(parts) == 0 {
		parts = []string{components.Plural(len(a.Events), "event")}
	}
	return strings.Join(parts, ", ")
}

// since leads to what is new, and nothing else.
func (p ShowPage) since() string { return p.path() + "?after=" + strconv.FormatInt(p.Away.Since, 10) }
