package models

// Run is what the executions of one run amount to. It is written together with their moves, so that no list ever counts them.
// Instants are ms since 1970, UTC.
type Run struct {
	ID         string  `gorm:"primaryKey"`
	WorkflowID *string // the caller's own name of the run, when one was given
	RootID     string  `gorm:"not null"` // the execution it began with
	NodeID     string  `gorm:"not null"` // of that execution, as are the four that follow
	Function   string  `gorm:"not null"`
	SessionID  *string
	ActorID    *string

	Status    Status `gorm:"not null"` // see docs/state-machine.md, "The status of a run"
	Total     int    `gorm:"not null"`
	Waiting   int    `gorm:"not null"`
	Succeeded int    `gorm:"not null"`
	Failed    int    `gorm:"not null"`
	Timeout   int    `gorm:"not null"`
	Cancelled int    `gorm:"not null"`
	Roots     int    `gorm:"not null"` // executions without a parent
	WorstRoot int    `gorm:"not null"` // how the worst of them ended: 0 succeeded or not ended, 1 cancelled, 2 timeout, 3 failed

	CreatedAt  int64 `gorm:"not null;autoCreateTime:false"`
	FinishedAt *int64
}

// Target is the name callers use: node.function of the root.
func (r *Run) Target() string { return r.NodeID + "." + r.Function }

// Workflow is the id of the run as its callers know it: their own, else the run id (ruling C9).
func (r *Run) Workflow() string {
	if r.WorkflowID != nil {
		return *r.WorkflowID
	}
	return r.ID
}

// Ended counts the executions that are over.
func (r *Run) Ended() int { return r.Succeeded + r.Failed + r.Timeout + r.Cancelled }

// Active counts those that are pending, queued, running or paused.
func (r *Run) Active() int { return r.Total - r.Ended() - r.Waiting }

// Step is one execution as the pictures of its run need it: no payloads, no leases.
type Step struct {
	ID           string
	ParentID     *string
	NodeID       string
	Function     string
	FunctionKind string
	Status       Status
	StatusReason *string
	Attempt      int
	Rounds       int // approvals requested so far
	HasWebhook   bool
	CreatedAt    int64  // ms
	StartedAt    *int64 // ms; nil while it has not been dispatched
	FinishedAt   *int64 // ms
	WaitingSince *int64 // ms; nil unless it waits for a person now
	ErrorMessage *string
	Progress     *float64 // 0 to 1
	SessionID    *string
	ActorID      *string
}

// Target is the name callers use: node.function.
func (s *Step) Target() string { return s.NodeID + "." + s.Function }
