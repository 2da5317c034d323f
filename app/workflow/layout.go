package workflow

import (
	"slices"
	"strconv"

	"github.com/agentfield/agentfield/models"
)

// The geometry: a parent stands on the row of its first child and edges are elbows, so that a picture reads like an outline and does
// not move when the run grows below.
const (
	columnStep = models.ItemWidth + 52
	rowStep    = models.ItemHeight + 16
	marginX    = 28
	marginY    = 14
	afterX     = 72 // for the badge of a fold
	elbow      = 8  // radius
	railX      = 10 // of the line that links executions without a parent
)

// paths are the ways through a graph that are drawn over it.
type paths struct{ critical, blocked, failure []string }

func pathsOf(g *Graph) paths { return paths{Critical(g), BlockedBy(g), Failure(g)} }

// drawing turns boxes into items.
type drawing struct {
	f       *folding
	p       *models.Picture
	row     int
	paths   [3]map[string]bool // critical, blocked, failure
	lines   [3][]byte
	edges   []byte
	active  []byte
	counter map[models.Status]int
}

func (f *folding) draw(tops []*box, paths paths) *models.Picture {
	d := &drawing{
		f: f, p: &models.Picture{Items: make([]models.Item, 0, f.drawn), Total: len(f.g.Nodes), Matches: f.matches},
		paths: [3]map[string]bool{setOf(paths.critical), setOf(paths.blocked), setOf(paths.failure)}, counter: map[models.Status]int{},
	}
	var rail []int
	for i, b := range tops {
		if i > 0 {
			d.row++
		}
		if b.kind != models.ItemOrphans {
			rail = append(rail, rowY(d.row))
		}
		d.item(b, "", 0, i+1, len(tops))
	}
	d.p.Edges, d.p.Active, d.p.Sequence = string(d.edges), string(d.active), sequence(rail)
	d.p.Critical, d.p.Blocked, d.p.Failure = string(d.lines[0]), string(d.lines[1]), string(d.lines[2])
	d.p.Width += afterX
	d.p.Height = rowY(d.row) + models.ItemHeight + marginY
	return d.p
}

func setOf(ids []string) map[string]bool {
	set := make(map[string]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

func rowY(row int) int { return marginY + row*rowStep }

// item places a box and what hangs from it. Only drawn boxes have kids, so this goes no deeper than the picture.
func (d *drawing) item(b *box, parent string, level, place, of int) {
	at := len(d.p.Items)
	d.p.Items = append(d.p.Items, models.Item{
		ID: b.id(), Kind: b.kind, Parent: parent, X: marginX + level*columnStep, Y: rowY(d.row), Level: level + 1, Place: place, Of: of, Fold: b.fold,
	})
	item := &d.p.Items[at]
	d.describe(item, b)
	d.p.Width = max(d.p.Width, item.X+models.ItemWidth)
	from := *item // the slice may move
	spine := from.Y + models.ItemHeight/2
	for i, kid := range b.kids {
		if i > 0 {
			d.row++
		}
		y := rowY(d.row) + models.ItemHeight/2
		child := len(d.p.Items)
		d.item(kid, from.ID, level+1, i+1, len(b.kids))
		d.link(&from, &d.p.Items[child], spine, y)
		spine = y
	}
}

// link draws the edge from a parent to a child. Edges share the line down from their parent: each begins where the one before ended.
func (d *drawing) link(from, to *models.Item, spine, y int) {
	top := from.Y + models.ItemHeight/2
	d.edges = appendElbow(d.edges, from.X+models.ItemWidth, top, max(spine-elbow, top), to.X, y)
	if onTheWay(to) {
		d.active = appendElbow(d.active, from.X+models.ItemWidth, top, top, to.X, y)
	}
	for i, on := range [3]bool{from.OnCritical && to.OnCritical, from.OnBlocked && to.OnBlocked, from.OnFailure && to.OnFailure} {
		if on {
			d.lines[i] = appendElbow(d.lines[i], from.X+models.ItemWidth, top, top, to.X, y)
		}
	}
}

func onTheWay(item *models.Item) bool {
	return slices.ContainsFunc(item.Counts, func(c models.StatusCount) bool {
		return c.Status == models.Running || c.Status == models.Queued || c.Status == models.Pending
	})
}

// appendElbow adds a line from (x1, y1) that turns down half way and arrives at (x2, y2). What of its way down lies above begin has
// been drawn with another line.
func appendElbow(b []byte, x1, y1, begin, x2, y2 int) []byte {
	if y1 == y2 {
		return appendPath(b, 'M', x1, y1, 'H', x2)
	}
	middle := (x1 + x2) / 2
	if begin <= y1 {
		b = appendPath(b, 'M', x1, y1, 'H', middle-elbow)
		b = appendPath(b, 'Q', middle, y1, ' ', middle, y1+elbow)
	} else {
		b = appendPath(b, 'M', middle, begin)
	}
	b = appendPath(b, 'V', y2-elbow)
	b = appendPath(b, 'Q', middle, y2, ' ', middle+elbow, y2)
	return appendPath(b, 'H', x2)
}

// appendPath adds commands (as runes) and lengths (as ints).
func appendPath(b []byte, parts ...any) []byte {
	number := false
	for _, part := range parts {
		switch part := part.(type) {
		case rune:
			b, number = append(b, byte(part)), false //nolint:gosec // letters of our own
		case int:
			if number {
				b = append(b, ' ')
			}
			b, number = strconv.AppendInt(b, int64(part), 10), true
		}
	}
	return b
}

// sequence links executions without a parent along the left edge.
func sequence(rows []int) string {
	if len(rows) < 2 {
		return ""
	}
	var b []byte
	for i := 1; i < len(rows); i++ {
		from, to := rows[i-1]+models.ItemHeight/2, rows[i]+models.ItemHeight/2
		b = appendPath(b, 'M', marginX, from, 'H', railX+elbow, 'Q', railX, from, ' ', railX, from+elbow, 'V', to-elbow, 'Q', railX, to, ' ', railX+elbow, to, 'H', marginX)
	}
	return string(b)
}

// describe fills in what an item says.
func (d *drawing) describe(item *models.Item, b *box) {
	clear(d.counter)
	switch b.kind {
	case models.ItemStep:
		d.describeStep(item, b)
	case models.ItemStack:
		item.Name, item.Node, item.Count = b.node.Function, b.node.NodeID, len(b.members)
		d.describeHidden(item, b)
	case models.ItemRest:
		item.Count = len(b.members)
		d.describeHidden(item, b)
	case models.ItemOrphans:
		item.Children = len(d.f.g.Orphans)
	}
	for _, status := range models.Statuses {
		if n := d.counter[status]; n > 0 {
			item.Counts = append(item.Counts, models.StatusCount{Status: status, Count: n})
		}
	}
}

// describeStep: its counts are those of what is folded into it, and its own.
func (d *drawing) describeStep(item *models.Item, b *box) {
	n := b.node
	item.Step, item.Name, item.Node, item.Count, item.Children = n.Step, n.Function, n.NodeID, 1, len(n.Children)
	item.Selected, item.Match = n.ID == d.f.v.Selected, d.f.found[n.Index]
	item.OnCritical, item.OnBlocked, item.OnFailure = d.paths[0][n.ID], d.paths[1][n.ID], d.paths[2][n.ID]
	item.ParentUnrecorded, item.CycleCut = n.Orphan && !n.Cut, n.Cut
	d.counter[n.Status]++
	d.p.Drawn++
	if b.fold.State == models.FoldClosed {
		for _, c := range n.Children {
			item.Hidden += d.tally(c)
		}
	}
}

func (d *drawing) describeHidden(item *models.Item, b *box) {
	for _, n := range b.members {
		item.OnCritical = item.OnCritical || d.paths[0][n.ID]
		item.OnBlocked = item.OnBlocked || d.paths[1][n.ID]
		item.OnFailure = item.OnFailure || d.paths[2][n.ID]
		d.counter[n.Status]++
		below := d.counter
		d.counter = map[models.Status]int{}
		for _, c := range n.Children {
			item.Hidden += d.tally(c)
		}
		d.counter = below
	}
}

// tally counts a node and everything below it. Hidden parts of a graph do not overlap, so that all tallies together are linear.
func (d *drawing) tally(n *Node) int {
	total := 0
	stack := []*Node{n}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = append(stack[:len(stack)-1], n.Children...)
		d.counter[n.Status]++
		total++
	}
	return total
}
