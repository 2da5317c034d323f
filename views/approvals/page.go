package approvals

import (
	"net/url"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/layout"
)

// Page is the queue with one item open beside it. It is served whole, or as one of its fragments: "inbox" (queue and item), "queue"
// (the list alone) or "item" (the item alone; of the page only Frame, Me, Filter, Item, Missing, Done and Counts are read then).
type Page struct {
	Frame   layout.Page
	Me      string // the name under which this visitor decides, as it stands in DecidedBy and ClaimedBy
	Right   Right  // whether this visitor may decide anything at all
	Filter  Filter
	Rows    []Row // in the order of the filter
	Counts  Counts
	Views   []View // saved by this visitor, by name
	Next    string // cursor of the following page; empty: there is none
	Prev    string // cursor of the page before; empty: only the way back to the first is offered
	Any     bool   // the server has had a request at all: an empty queue is then clear, and not new
	Last    *models.Approval
	Problem string // what is wrong with a filter, in a sentence; the rest of the filter was applied
	Item    *Item  // nil: nothing to show beside the list
	Named   bool   // the address names the item; otherwise it is the first of the list, which a narrow screen does not show
	Missing string // the id that the address names and nobody knows
	Done    *Done  // what this visitor has just decided (query "done"); nil: nothing
	Target  string // a function that is registered, for the command of an empty server; may be empty
}

// Row is a line of the queue.
type Row struct {
	Approval *models.Approval
	Alike    int // open requests of the same shape in the whole queue, this one included; 0 or 1: none
}

// Counts are the numbers on the tabs. Each is bounded by the server; Limit says where it stops counting, 0 means that it does not.
type Counts struct {
	Pending  int
	Mine     int // pending and claimed by this visitor
	Expiring int // pending with less than an hour left, overdue ones included
	Overdue  int // pending although the time is over: what expires them has not come to them yet
	Limit    int
}

// View is a filter saved under a name.
type View struct {
	ID, Name, Query string
	Count           int // what it finds; 0: nothing, or not counted
}

// Right says whether something is allowed, and if not, why, in a sentence that is shown beside the disabled button.
type Right struct {
	Allowed bool
	Why     string
}

// Item is one request with everything that helps to decide it.
type Item struct {
	Approval *models.Approval
	Payload  []byte // JSON: what is proposed; nil: the agent proposed nothing, then Input is shown
	Input    []byte // of the execution, nil when a payload is there or nothing is kept
	Form     []byte // JSON Schema of the answers; nil: none
	Edited   []byte // the payload as it was approved with changes; nil: it was not changed
	Before   []byte // what the round before proposed; nil: this is the first round, or it proposed nothing

	Execution *models.Execution // that waits; nil: no longer kept
	Run       []*models.Execution
	MoreRun   int                   // executions of the run that are not in Run; 0: none
	Rounds    []Round               // of this execution, oldest first, this one excluded
	Votes     []models.ApprovalVote // approvals so far, where several are needed, oldest first
	Similar   Similar

	Right        Right
	Policy       []string     // sentences beside the quorum, such as "The requester may not decide."
	Consequences Consequences // what each button really does here
	Hold         int          // seconds until a decision made with JavaScript takes effect; 0: at once
	Page         string       // the agent's own page for this decision, when it has one; http or https; empty: this page is it

	Draft    *models.Draft     // what this visitor has typed and not sent; Text is what Typed.Draft makes
	Typed    *Typed            // what this visitor has sent and the server refused: shown again instead of the draft
	Conflict bool              // refused because somebody was faster: Approval holds what stands now
	Problems map[string]string // refused because of a field: by "feedback", "edited", "response", "answer.<name>"; "" for all
}

// Round is an earlier request of the same execution.
type Round struct {
	Approval *models.Approval
	Payload  []byte // nil: it proposed nothing
}

// Consequences say what a decision does, in words that the server makes because only it knows.
type Consequences struct {
	Approve, RequestChanges, Reject string
}

// Similar is how requests of the same shape were decided before.
type Similar struct {
	Approved, Rejected, ChangesRequested, Expired int
	Recent                                        []*models.Approval // decided last, newest first
}

func (s Similar) total() int { return s.Approved + s.Rejected + s.ChangesRequested + s.Expired }

// Typed is a decision as it is written into the form.
type Typed struct {
	Decision string // approved, rejected or request_changes
	Feedback string
	Edited   string     // JSON; empty: not edited
	Response string     // JSON, for forms that cannot be drawn as fields
	Answers  url.Values // by "answer.<name>"
}

// Done is a decision that was just made from this page.
type Done struct {
	Approval *models.Approval
}

// Fresh says how many requests have come since a page was made.
type Fresh struct {
	Filter Filter
	Count  int
	More   bool // there are more than were counted
	At     int64
	Counts Counts // as they are now
}

// Bulk is the page before several requests are decided together.
type Bulk struct {
	Frame        layout.Page
	Me           string
	Filter       Filter // of the list to go back to
	Right        Right
	Items        []BulkItem
	Excluded     []Excluded
	Consequences Consequences
	Hold         int    // seconds until the decisions take effect, with JavaScript; 0: at once
	Feedback     string // what was typed, when it is shown again
	Problem      string // why it was refused; empty: it was not
}

// BulkItem is a request that can be decided with the others.
type BulkItem struct {
	Approval *models.Approval
	Payload  []byte
}

// Excluded is a request that has to be decided by itself, and why.
type Excluded struct {
	Approval *models.Approval
	Reason   string // in a sentence, such as "High risk: decide it by itself."
}

// BulkLimit is the most that can be decided together.
const BulkLimit = 100

// BulkDone is the page after it.
type BulkDone struct {
	Frame    layout.Page
	Me       string
	Filter   Filter
	Decision models.ApprovalStatus
	Results  []Result
}

// Result is what became of one request of several.
type Result struct {
	Approval *models.Approval // as it stands now
	OK       bool
	Text     string // what happened, in a sentence, such as "Already approved by dana, 4 s before you."
}

func (p Page) now() time.Time { return p.Frame.Now }
