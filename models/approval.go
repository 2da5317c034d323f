package models

// ApprovalStatus says where a request for a decision stands. Pending and held are open; the others are final.
type ApprovalStatus string

// The statuses of an approval request. Those of a decision are the words of the documented API.
const (
	ApprovalPending   ApprovalStatus = "pending"
	ApprovalHeld      ApprovalStatus = "held" // decided in the dashboard, in effect in a moment; its author may still withdraw it
	Approved          ApprovalStatus = "approved"
	Rejected          ApprovalStatus = "rejected"
	ChangesRequested  ApprovalStatus = "request_changes"
	ApprovalExpired   ApprovalStatus = "expired"
	ApprovalWithdrawn ApprovalStatus = "withdrawn" // the execution ended before anybody decided
)

// ApprovalStatuses lists every status of an approval request.
var ApprovalStatuses = []ApprovalStatus{ApprovalPending, ApprovalHeld, Approved, Rejected, ChangesRequested, ApprovalExpired, ApprovalWithdrawn}

// Open reports whether a decision can still be made.
func (s ApprovalStatus) Open() bool { return s == ApprovalPending || s == ApprovalHeld }

// Approval is one request of an agent for a decision by a person: one round of one execution. No round is ever overwritten.
type Approval struct {
	ID          string `gorm:"primaryKey"` // appr_…
	RequestID   string `gorm:"not null"`   // the agent's own id; unique among open requests
	ExecutionID string `gorm:"not null"`
	RunID       string `gorm:"not null"`
	NodeID      string `gorm:"not null"`
	Function    string `gorm:"not null"`
	SessionID   *string
	ActorID     *string        // as the caller claimed
	StartedBy   *string        // the principal that started the execution, or the first above it that is known
	Round       int            `gorm:"not null"` // 1 is the first of the execution
	Status      ApprovalStatus `gorm:"not null"`
	Version     int            `gorm:"not null"` // counts up with every change; a decision names the one it was made on

	Title     string `gorm:"not null"`
	Summary   string `gorm:"not null"` // the agent's words: untrusted text
	Risk      string `gorm:"not null"` // low, medium, high, or empty when the agent did not say
	Next      string `gorm:"not null"` // what follows an approval, in the agent's words
	Shape     string `gorm:"not null"` // fingerprint of function, risk and keys of the payload: equal ones may be decided together
	Editable  bool   `gorm:"not null"` // the payload may be edited with an approval
	HasForm   bool   `gorm:"not null"`
	URL       string `gorm:"not null"` // where a person acts: the agent's page, or ours
	Callback  *string
	Policy    string `gorm:"not null"` // JSON: who may decide
	Quorum    int    `gorm:"not null"` // approvals needed
	OnReject  string `gorm:"not null"` // resume or cancel
	OnExpire  string `gorm:"not null"` // resume or cancel
	CreatedAt int64  `gorm:"not null;autoCreateTime:false"`
	ExpiresAt int64  `gorm:"not null"`

	ClaimedBy    *string // the reviewer who looks at it; claims warn and do not block
	ClaimedUntil *int64

	HeldUntil *int64 // the decision below takes effect then
	Decision  *string
	DecidedBy *string
	Channel   *string // ui, api, signature, timer
	Feedback  *string
	Response  *string // JSON: answers to the form
	DecidedAt *int64
	ClosedAt  *int64 // when it took effect, expired or was withdrawn; nil while open
	ToldAt    *int64 // when the agent is known to have the decision
}

// ApprovalBody holds the large parts of a request, apart so that the queue never reads them.
type ApprovalBody struct {
	ApprovalID string `gorm:"primaryKey"`
	Payload    []byte // JSON: what is proposed
	Form       []byte // JSON Schema of the answers
	Edited     []byte // JSON: the payload as the reviewer changed it
}

// ApprovalVote is one reviewer's voice where several are needed.
type ApprovalVote struct {
	ApprovalID string `gorm:"primaryKey"`
	Voter      string `gorm:"primaryKey"`
	Feedback   string `gorm:"not null"`
	At         int64  `gorm:"not null"`
}

// Draft is what a person has typed and not sent: it is there again when they come back.
type Draft struct {
	Owner     string `gorm:"primaryKey"`
	Kind      string `gorm:"primaryKey"` // approval
	ObjectID  string `gorm:"primaryKey"`
	Text      string `gorm:"not null"`
	UpdatedAt int64  `gorm:"not null;autoUpdateTime:false"`
}

// SavedView is a filter of a list under a name.
type SavedView struct {
	ID        string `gorm:"primaryKey"`
	Owner     string `gorm:"not null"`
	List      string `gorm:"not null"` // approvals, executions, runs
	Name      string `gorm:"not null"`
	Query     string `gorm:"not null"` // of the URL
	CreatedAt int64  `gorm:"not null;autoCreateTime:false"`
}
