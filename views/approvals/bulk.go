package approvals

import (
	"strings"

	"github.com/agentfield/agentfield/views/components"
)

// headline counts what was decided, and what was not.
func (d BulkDone) headline() string {
	done := 0
	for _, r := range d.Results {
		if r.OK {
			done++
		}
	}
	text := components.Plural(done, "request") + " " + strings.ToLower(lookOfDecision(d.Decision).Label)
	if d.Decision == "request_changes" {
		text = "Changes requested of " + components.Plural(done, "request")
	}
	if left := len(d.Results) - done; left > 0 {
		text += ", " + components.Number(left) + " not"
	}
	return text
}

// look is the mark of one result: what was decided, or that it was not.
func (d BulkDone) look(r Result) components.Look {
	if !r.OK {
		return components.Look{Family: "st-wait", Icon: "warning"}
	}
	return lookOfDecision(d.Decision)
}
