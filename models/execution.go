package models

// Execution is one call of one function: at once the record and the item of the queue. Instants are ms since 1970, UTC.
type Execution struct {
	ID           string  `gorm:"primaryKey"`
	RunID        string  `gorm:"not null"`
	WorkflowID   *string // the caller's own name of the run, when one was given
	ParentID     *string
	SessionID    *string
	ActorID      *string
	Caller       *string // the node that made the call, when an agent did
	StartedBy    *string // the principal that sent the request, unless it was an agent or nobody in particular
	NodeID       string  `gorm:"not null"`
	Function     string  `gorm:"not null"`
	FunctionKind string  `gorm:"not null"` // reasoner or skill
	Mode         string  `gorm:"not null"` // sync or async

	Status       Status `gorm:"not null"`
	StatusReason *string
	AvailableAt  int64  `gorm:"not null"`
	Parked       Parked `gorm:"not null"`
	Attempt      int    `gorm:"not null"` // attempts begun: the fencing token together with LeaseOwner
	Failures     int    `gorm:"not null"` // attempts that failed and count against MaxAttempts
	MaxAttempts  int    `gorm:"not null"`
	Redeliveries int    `gorm:"not null"` // attempts lost with a replica of ours, counted apart
	LeaseOwner   *string
	HeldBy       *string // while it waits or is paused: the replica that has its call open
	PausedIn     *Status // while it is paused: the status in which that was
	InstanceID   *string // the node's instance that took the current attempt
	RetryPolicy  *string // JSON of RetryPolicy, when the caller gave one
	TimeoutMs    *int64
	DeadlineAt   *int64

	Rank           int     `gorm:"not null"` // 0 goes first: 9 minus the priority
	AskedBy        string  `gorm:"not null"` // who shares the node's places with others: principal, calling node or actor
	ConcurrencyKey *string // executions of the node with this key run at most KeyLimit at once, in the order they came
	KeyLimit       *int

	Holds          int    `gorm:"not null"` // waiting executions at or below this one; while there are any the deadline rests
	DeadlineLeftMs *int64 // what was left of the limit when it began to rest
	WaitingSince   *int64
	Rounds         int `gorm:"not null"` // approvals requested so far

	HasWebhook    bool    `gorm:"not null"`
	Context       *string // JSON the caller wants echoed in its webhook
	Trace         *string // W3C traceparent of the caller
	Headers       *string // JSON: further headers of the caller, which the agent gets as they came
	CreatedAt     int64   `gorm:"not null;autoCreateTime:false"`
	StartedAt     *int64
	FinishedAt    *int64
	ErrorCode     *string
	ErrorCategory *string
	ErrorMessage  *string
	ErrorGroup    *string // the same for errors that differ only in numbers, ids and quoted words
	ErrorStatus   *int    // the HTTP status the agent answered with, when it refused
	Progress      *float64
	ProgressNote  *string
	InputBytes    int64   `gorm:"not null"`
	ResultBytes   int64   `gorm:"not null"`
	RerunOf       *string // the execution that this one repeats
	Local         bool    `gorm:"not null"` // an agent ran it by itself and told of it: nothing is ever dispatched for it
}

// Parked says why a queued execution may not be claimed.
type Parked int16

// The reasons to park an execution.
const (
	NotParked Parked = iota
	PutOff           // until AvailableAt
	BehindKey        // as many as its key allows are before it
)

// The priorities: 0 can wait, 9 goes first.
const (
	MaxPriority     = 9
	DefaultPriority = 5
)

// Priority is what its caller asked for, 0 to 9.
func (e *Execution) Priority() int { return MaxPriority - e.Rank }

// Target is the name callers use: node.function.
func (e *Execution) Target() string { return e.NodeID + "." + e.Function }

// Workflow is the id of the run as its callers know it: their own, else the run id (ruling C9).
func (e *Execution) Workflow() string {
	if e.WorkflowID != nil {
		return *e.WorkflowID
	}
	return e.RunID
}

// DurationMs is the time from start to end, nil while there is no end.
func (e *Execution) DurationMs() *int64 {
	if e.FinishedAt == nil {
		return nil
	}
	from := e.CreatedAt
	if e.StartedAt != nil {
		from = *e.StartedAt
	}
	d := max(*e.FinishedAt-from, 0)
	return &d
}

// PayloadKind tells the bodies of one execution apart.
type PayloadKind int16

// The bodies an execution may have.
const (
	PayloadInput PayloadKind = iota
	PayloadResult
	PayloadErrorDetails
	PayloadPartial
	PayloadKept // what the agent reported while the execution waited, until the decision
)

// ExecutionPayload is one body, apart from the row so that lists never read it.
type ExecutionPayload struct {
	ExecutionID string      `gorm:"primaryKey"`
	Kind        PayloadKind `gorm:"primaryKey;autoIncrement:false"`
	Encoding    int16       `gorm:"not null"` // 0 as it came, 1 zstd
	Body        []byte      `gorm:"not null"`
}

// RunAlias is a caller's own name (X-Workflow-ID) of a run.
type RunAlias struct {
	WorkflowID string `gorm:"primaryKey"`
	RunID      string `gorm:"not null"`
}

// IdempotencyKey remembers which execution a key was answered with. Scope is route and principal, so that keys of two callers never meet.
type IdempotencyKey struct {
	Scope       string `gorm:"primaryKey"`
	Key         string `gorm:"primaryKey"`
	BodyHash    string `gorm:"not null"`
	ExecutionID string `gorm:"not null"`
	CreatedAt   int64  `gorm:"not null;autoCreateTime:false"`
}

// Event is something that happened, written in the transaction that made it happen and never changed.
type Event struct {
	ID          int64   `gorm:"primaryKey"`
	ExecutionID *string // nil for events of nodes
	RunID       *string
	NodeID      string  `gorm:"not null"`
	Kind        string  `gorm:"not null"` // execution.<status>, execution.note, node.registered, …
	Attempt     int     `gorm:"not null"`
	At          int64   `gorm:"not null"`
	Data        *string // small JSON: cause, reason, error
}

// Notice is something that an agent has to be told about an execution, delivered under a lease until it is acknowledged or given up.
type Notice struct {
	ID          string  `gorm:"primaryKey"`
	ExecutionID string  `gorm:"not null"`
	Kind        string  `gorm:"not null"` // cancel
	NodeID      string  `gorm:"not null"`
	InstanceID  *string // nil: not known which instance has the call, so all of the node are told
	URL         *string // where to post it; nil: the path of the protocol at the instance
	Body        string  `gorm:"not null"`
	Lease       `gorm:"embedded"`
	LastError   *string
	CreatedAt   int64 `gorm:"not null;autoCreateTime:false"`
}
