package models

// Picture is what is drawn of a run: at most a few hundred items with their places, however large the run is. Lengths are in px.
type Picture struct {
	Items  []Item // in the order of the tree, each parent before its children
	Width  int
	Height int

	// Paths of an SVG, empty when there is nothing of the kind.
	Edges    string // from each parent to its children
	Sequence string // from each execution without a parent to the next of them (ruling C19)
	Active   string // those of Edges that lead to something on its way
	Critical string
	Blocked  string
	Failure  string

	Total   int // executions of the run
	Drawn   int // those with an item of their own
	Matches int // those that the search has found
	Focus   string
	Trail   []Crumb  // the ancestors of the focus, from the root
	Opened  []string // the folds that are open on request, as the address names them
	Closed  []string
}

// The size of an item in px.
const (
	ItemWidth  = 168
	ItemHeight = 44
)

// Crumb is an ancestor of what is drawn.
type Crumb struct{ ID, Name string }

// ItemKind says what an item of a picture stands for.
type ItemKind string

// The kinds of items.
const (
	ItemStep    ItemKind = "step"    // one execution
	ItemStack   ItemKind = "stack"   // siblings that called the same target
	ItemRest    ItemKind = "rest"    // further siblings
	ItemOrphans ItemKind = "orphans" // above executions whose parent is not recorded
)

// Item is one box of a picture.
type Item struct {
	ID     string // of its execution; stacks, rests and the orphans have ids of their own that no execution has
	Kind   ItemKind
	Step   *Step // nil unless it stands for one execution
	Name   string
	Node   string // the node below the name, when all it stands for ran there
	Parent string // id of the item it hangs from, "" for a root

	X, Y             int
	Level            int // from 1
	Place, Of        int // among its siblings, from 1
	Children         int // executions called by it
	Count            int // executions it stands for: 1, or those of a stack or rest
	Hidden           int // executions below it that are not drawn
	Counts           []StatusCount
	Fold             Fold
	Selected, Match  bool
	OnCritical       bool
	OnBlocked        bool
	OnFailure        bool
	ParentUnrecorded bool // it names a parent that the run does not have
	CycleCut         bool // its parent is also its descendant; the link is left out
}

// Fold says whether something is folded into an item, and how the address has to name its folds to open or to close it.
type Fold struct {
	State FoldState
	Open  string // to add to the open folds (it replaces Was), "" when there is nothing to open
	Was   string // the entry of the open folds that stands for this item now
	Close string // to add to the closed ones
}

// FoldState is what can be done about what hangs below an item.
type FoldState string

// The states of a fold.
const (
	FoldNone   FoldState = ""       // nothing hangs below it
	FoldOpen   FoldState = "open"   // all of it is drawn
	FoldPart   FoldState = "part"   // some of it is drawn
	FoldClosed FoldState = "closed" // none of it is drawn
)

// StatusCount counts executions of one status.
type StatusCount struct {
	Status Status
	Count  int
}

// Timeline is a run on one clock. Offsets are ms from From.
type Timeline struct {
	From  int64 // ms since 1970: when the first execution was accepted
	Span  int64 // ms to the last end, or to now while anything is on its way
	Ended bool
	Rows  []TimelineRow // in the order in which they were accepted
}

// TimelineRow is one execution on the clock of its run.
type TimelineRow struct {
	Step     *Step
	Depth    int
	Spans    []Span // in order, without gaps between them
	Critical bool
}

// Span is a stretch of time that an execution spent in one way.
type Span struct {
	Kind SpanKind
	From int64
	To   int64
}

// SpanKind is the way in which time was spent.
type SpanKind string

// The kinds of spans.
const (
	SpanQueued  SpanKind = "queued"
	SpanRunning SpanKind = "running"
	SpanWaiting SpanKind = "waiting"
	SpanPaused  SpanKind = "paused"
)

// RunStory is a run in words.
type RunStory struct {
	Reason  string // why it has not ended, or why it failed; "" when there is nothing to say
	Summary string // where its time went
}

// RunNews is what has happened in a run since somebody looked.
type RunNews struct {
	Since   int64         // ms
	Called  int           // executions that are new
	Ended   []StatusCount // how many ended since, by how
	Waiting int           // those that began to wait for a person and still do
	Failed  *Step         // the first of those that failed
	Asks    *Step         // the first of those that wait
}

// None reports whether there is nothing to tell.
func (n RunNews) None() bool { return n.Called == 0 && len(n.Ended) == 0 && n.Waiting == 0 }
