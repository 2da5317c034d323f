package executions

import (
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/values"
)

// RerunPage is where an execution is made once more with another input.
type RerunPage struct {
	Frame     layout.Page
	Execution *models.Execution
	Input     values.Input
	Saved     *int64 // ms: what stands here is a draft of then; nil: it is the input as it was
	Key       string // of this attempt, so that a second press does not make a second execution
	Gone      string // why it cannot be made again; empty: it can
}

// RerunPath is the address on which an execution is made once more.
func RerunPath(id string) string { return "/executions/" + id + "/rerun" }

func (p RerunPage) now() time.Time { return p.Frame.Now }
