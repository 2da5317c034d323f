package workflow

import (
	"slices"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/models"
)

// View is what somebody wants to see of a graph. The zero value shows the whole as far as it fits.
type View struct {
	Focus    string // draw only what lies below this execution
	Selected string // always drawn, as are the first that Query finds
	Query    string // part of an id, a target, a status or an error, in any letter case
	Statuses []models.Status
	Open     []string // folds to open, as items name them
	Closed   []string // executions whose calls are not wanted
	Depth    int      // fold what lies deeper, unless something calls for it; 0: nothing
	Limit    int      // items at most; 0: 200
}

const (
	defaultItems = 200
	stackFrom    = 7  // as many siblings of one target make a stack
	openStep     = 50 // how many more each opening shows
	pulled       = 3  // members of a stack that are shown beside it because of their status
	matchesShown = 50
	deep         = 50 // a selected execution further down is shown from some of its ancestors on
	above        = 10
)

// The marks behind the id of an execution that make the ids of items which are none, and the one before.
const (
	stackMark = "*" // the siblings of one target, named after the first of them
	restMark  = "~" // the further calls of an execution
	orphansID = "~orphans"
)

// box is one item in the making.
type box struct {
	kind    models.ItemKind
	node    *Node   // of a step; of a stack the one it is named after
	members []*Node // of a stack or rest: what it hides
	parent  *box
	kids    []*box
	fold    models.Fold
	shown   int // of a rest: how many of its siblings are drawn
}

// folding chooses what is drawn.
type folding struct {
	g        *Graph
	v        View
	limit    int
	kept     []bool      // must be drawn
	keptKids map[int]int // by the index of the parent; -1: nothing above, -2: the orphans
	groups   map[group][]*Node
	opened   map[string]int // how much of a fold is open; -1: no more than usual
	closed   map[string]bool
	matches  int
	found    []bool
	drawn    int
	owedKept int // kept nodes that are not drawn yet
	owedRest int // rests that may be needed for their siblings
}

// group is the siblings that called one target.
type group struct {
	parent         int
	node, function string
}

const (
	noParent      = -1
	orphansParent = -2
)

func parentOf(n *Node) int {
	switch {
	case n.Parent != nil:
		return n.Parent.Index
	case n.Orphan:
		return orphansParent
	}
	return noParent
}

func groupOf(n *Node) group { return group{parentOf(n), n.NodeID, n.Function} }

// Fold draws at most Limit items in linear time. Siblings of one target become a stack when there are many; what is still too much
// is folded breadth first, but the ways to what failed, waits, runs, was found or selected stay open as far as there is room.
func (g *Graph) Fold(v View) *models.Picture {
	f := &folding{g: g, v: v, limit: v.Limit, kept: make([]bool, len(g.Nodes)), keptKids: map[int]int{}, found: make([]bool, len(g.Nodes))}
	if f.limit <= 0 {
		f.limit = defaultItems
	}
	f.readFolds()
	f.groupSiblings()
	focus := f.focus()
	paths := pathsOf(g)
	f.search()
	f.keep(focus, paths)
	tops := f.expand(focus)
	p := f.draw(tops, paths)
	p.Opened, p.Closed = v.Open, v.Closed
	if focus != nil {
		p.Focus = focus.ID
		for n := focus.Parent; n != nil; n = n.Parent {
			p.Trail = append(p.Trail, models.Crumb{ID: n.ID, Name: n.Function})
		}
		slices.Reverse(p.Trail)
	}
	return p
}

// readFolds reads "id", "id*50" and "id~100".
func (f *folding) readFolds() {
	f.opened, f.closed = map[string]int{}, map[string]bool{}
	heeded := min(len(f.v.Open), f.limit/8) // each may need an item of its own
	for _, entry := range f.v.Open[:heeded] {
		id, shown := entry, -1
		if at := strings.LastIndexAny(entry, stackMark+restMark); at >= 0 && f.g.Find(entry) == nil && entry != orphansID {
			id = entry[:at+1]
			shown = openStep
			if n, err := strconv.Atoi(entry[at+1:]); err == nil && n > 0 {
				shown = min(n, MaxSteps)
			}
		}
		f.opened[id] = shown
	}
	for _, id := range f.v.Closed {
		f.closed[id] = true
	}
}

func (f *folding) groupSiblings() {
	f.groups = map[group][]*Node{}
	add := func(siblings []*Node) {
		if len(siblings) < stackFrom {
			return
		}
		for _, n := range siblings {
			f.groups[groupOf(n)] = append(f.groups[groupOf(n)], n)
		}
	}
	add(f.g.Roots)
	add(f.g.Orphans)
	for _, n := range f.g.Nodes {
		add(n.Children)
	}
}

// focus is where the picture begins: where it was asked to, or above a selected execution that lies very deep.
func (f *folding) focus() *Node {
	if n := f.g.Find(f.v.Focus); n != nil {
		return n
	}
	n := f.g.Find(f.v.Selected)
	if n == nil || n.Depth < deep {
		return nil
	}
	for range above {
		n = n.Parent
	}
	return n
}

func (f *folding) search() {
	words := strings.Fields(strings.ToLower(f.v.Query))
	if len(words) == 0 && len(f.v.Statuses) == 0 {
		return
	}
	for _, n := range f.g.Nodes {
		if (len(f.v.Statuses) == 0 || slices.Contains(f.v.Statuses, n.Status)) && n.says(words) {
			f.found[n.Index] = true
			f.matches++
		}
	}
}

// says reports whether each word is part of something that the node shows.
func (n *Node) says(words []string) bool {
	if len(words) == 0 {
		return true
	}
	text := n.ID + "\n" + n.Target() + "\n" + string(n.Status)
	if n.ErrorMessage != nil {
		text += "\n" + *n.ErrorMessage
	}
	text = strings.ToLower(text)
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// keep marks what must be drawn, the most wanted first, until two fifths of the room are promised.
func (f *folding) keep(focus *Node, paths paths) {
	k := keeping{f: f, focus: focus, room: f.limit * 2 / 5, pulled: map[group]int{}}
	k.reach(f.g.Find(f.v.Selected), true)
	for _, entry := range f.v.Open {
		k.reach(f.holder(entry), true)
	}
	shown := 0
	for i, n := range f.g.Nodes {
		if f.found[i] && shown < matchesShown && k.reach(n, true) {
			shown++
		}
	}
	k.reach(f.g.Find(last(paths.failure)), true)
	k.reach(f.g.Find(last(paths.blocked)), true)
	for _, wanted := range [][]models.Status{{models.Failed, models.Timeout}, {models.Waiting}, {models.Running, models.Paused}} {
		for _, n := range f.g.Nodes {
			if slices.Contains(wanted, n.Status) {
				k.reach(n, false)
			}
		}
	}
}

// holder is the execution that an open fold hangs from: without it there is nothing to open.
func (f *folding) holder(entry string) *Node {
	if n := f.g.Find(entry); n != nil {
		return n
	}
	at := strings.LastIndexAny(entry, stackMark+restMark)
	if at < 0 {
		return nil
	}
	n := f.g.Find(entry[:at])
	if n != nil && entry[at:at+1] == stackMark {
		return n.Parent
	}
	return n
}

func last(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return path[len(path)-1]
}

type keeping struct {
	f      *folding
	focus  *Node
	room   int
	pulled map[group]int
}

// reach keeps a node and what leads to it, if there is room for all of that. Members of a stack are pulled out of it without limit
// only when they are wanted themselves.
func (k *keeping) reach(n *Node, wanted bool) bool {
	if n == nil || k.room <= 0 {
		return false
	}
	var path []*Node
	for at := n; at != nil && !k.f.kept[at.Index] && len(path) <= k.room; at = at.Parent {
		if !wanted && k.stacked(at) && (k.pulled[groupOf(at)] >= pulled || at.quiet()) {
			return false
		}
		path = append(path, at)
		if at == k.focus {
			break
		}
	}
	if len(path) > k.room || k.outside(path) {
		return false
	}
	k.room -= len(path)
	for _, at := range path {
		k.f.kept[at.Index] = true
		k.f.owedKept++
		k.f.keptKids[parentOf(at)]++
		if k.stacked(at) {
			k.pulled[groupOf(at)]++
		}
	}
	return true
}

// outside reports whether a path misses the focus.
func (k *keeping) outside(path []*Node) bool {
	if k.focus == nil || len(path) == 0 {
		return false
	}
	top := path[len(path)-1]
	return top != k.focus && top.Parent == nil
}

func (k *keeping) stacked(n *Node) bool { return len(k.f.groups[groupOf(n)]) >= stackFrom }

// quiet members of a stack are well enough shown by its counts: what merely runs and has called nothing.
func (n *Node) quiet() bool { return n.Status == models.Running && len(n.Children) == 0 }

// expand makes the boxes: first what was opened, then breadth first.
func (f *folding) expand(focus *Node) []*box {
	f.owedRest = len(f.keptKids) + len(f.opened)
	tops := f.tops(focus)
	var asked, others []*box
	enqueue := func(boxes []*box) {
		for _, b := range boxes {
			if _, ok := f.opened[b.id()]; ok {
				asked = append(asked, b)
			} else {
				others = append(others, b)
			}
		}
	}
	enqueue(tops)
	for len(asked)+len(others) > 0 {
		from := &asked
		if len(asked) == 0 {
			from = &others
		}
		b := (*from)[0]
		*from = (*from)[1:]
		if children := f.childrenOf(b); len(children) > 0 {
			f.open(b, children)
			enqueue(b.kids)
		}
	}
	return tops
}

func (f *folding) tops(focus *Node) []*box {
	if focus != nil {
		b := &box{kind: models.ItemStep, node: focus}
		f.count(b)
		return []*box{b}
	}
	if len(f.g.Orphans) > 0 {
		f.drawn++ // the box above them
	}
	above := &box{}
	f.open(above, f.g.Roots)
	for _, b := range above.kids {
		b.parent = nil
	}
	tops := above.kids
	if len(f.g.Orphans) > 0 {
		tops = append(tops, &box{kind: models.ItemOrphans})
	}
	return tops
}

func (f *folding) count(b *box) {
	f.drawn++
	if b.kind == models.ItemStep && f.kept[b.node.Index] {
		f.owedKept--
	}
}

func (f *folding) childrenOf(b *box) []*Node {
	switch b.kind { //nolint:exhaustive // nothing hangs from the others
	case models.ItemStep:
		return b.node.Children
	case models.ItemOrphans:
		return f.g.Orphans
	}
	return nil
}

// id is the name of a box in addresses; "" above everything.
func (b *box) id() string {
	switch b.kind {
	case models.ItemStep:
		return b.node.ID
	case models.ItemStack:
		return b.node.ID + stackMark
	case models.ItemRest:
		if b.parent == nil {
			return restMark
		}
		return b.parent.id() + restMark
	case models.ItemOrphans:
		return orphansID
	}
	return ""
}

func (b *box) index() int {
	switch b.kind { //nolint:exhaustive // nothing hangs from the others
	case models.ItemStep:
		return b.node.Index
	case models.ItemOrphans:
		return orphansParent
	}
	return noParent
}

// open gives a box those of its children that there is room for.
func (f *folding) open(b *box, children []*Node) {
	id, kept := b.id(), f.keptKids[b.index()]
	shown, asked := f.opened[id+restMark]
	if asked {
		f.owedRest--
	} else {
		shown = openStep
	}
	if kept > 0 {
		f.owedRest--
	}
	_, opened := f.opened[id]
	if opened {
		f.owedRest--
	}
	if f.closed[id] {
		f.owedKept -= kept
		b.fold = models.Fold{State: models.FoldClosed, Open: id}
		return
	}
	units := f.units(b, children)
	room := f.limit - f.drawn - (f.owedKept - kept) - f.owedRest
	must := kept > 0 || opened || asked || b.kind == "" || b.kind == models.ItemOrphans
	tooDeep := f.v.Depth > 0 && b.kind == models.ItemStep && b.node.Depth+1 >= f.v.Depth
	switch {
	case len(units) <= room && (must || !tooDeep):
		b.fold = models.Fold{State: models.FoldOpen}
	case must || !tooDeep && len(units) > openStep && room > openStep:
		units = f.cutTo(b, units, max(min(room-1, shown), kept))
		b.fold = models.Fold{State: models.FoldPart}
	default:
		b.fold = models.Fold{State: models.FoldClosed, Open: id}
		return
	}
	b.fold.Close = id
	if opened {
		b.fold.Was = id
	}
	b.kids = units
	for _, kid := range units {
		f.count(kid)
	}
}

// cutTo leaves the kept units and the first others, and gathers the remainder in a rest at the end.
func (f *folding) cutTo(b *box, units []*box, most int) []*box {
	others := most
	for _, u := range units {
		if f.isKept(u) {
			others--
		}
	}
	rest := &box{kind: models.ItemRest, parent: b}
	if b.kind == "" {
		rest.parent = nil
	}
	var left []*box
	for _, u := range units {
		switch {
		case f.isKept(u):
			left = append(left, u)
		case others > 0:
			left = append(left, u)
			others--
		case u.kind == models.ItemStack:
			rest.members = append(rest.members, u.members...)
		default:
			rest.members = append(rest.members, u.node)
		}
	}
	if len(rest.members) == 0 {
		return left
	}
	rest.shown = len(left)
	rest.fold = f.foldOf(rest.id(), rest.shown)
	return append(left, rest)
}

func (f *folding) isKept(b *box) bool { return b.kind == models.ItemStep && f.kept[b.node.Index] }

// foldOf is the fold of what opens step by step.
func (f *folding) foldOf(id string, shown int) models.Fold {
	fold := models.Fold{State: models.FoldClosed, Open: id + strconv.Itoa((shown/openStep+1)*openStep)}
	if asked, ok := f.opened[id]; ok {
		fold.State, fold.Was = models.FoldPart, f.entry(id, asked)
	}
	return fold
}

// entry is how the address has named an open fold.
func (f *folding) entry(id string, shown int) string {
	if exact := id + strconv.Itoa(shown); slices.Contains(f.v.Open, exact) {
		return exact
	}
	return id
}

// units are the children of a box with those of one target stacked, in the order of the first that each stands for.
func (f *folding) units(b *box, children []*Node) []*box {
	units := make([]*box, 0, min(len(children), 2*f.limit))
	stacks := map[group]*box{}
	shown := map[group]int{}
	for _, n := range children {
		members := f.groups[groupOf(n)]
		if len(members) < stackFrom || f.kept[n.Index] {
			units = append(units, &box{kind: models.ItemStep, node: n, parent: b})
			continue
		}
		key := groupOf(n)
		if most := f.opened[members[0].ID+stackMark]; shown[key] < most {
			shown[key]++
			units = append(units, &box{kind: models.ItemStep, node: n, parent: b})
			continue
		}
		stack := stacks[key]
		if stack == nil {
			stack = &box{kind: models.ItemStack, node: members[0], parent: b}
			stack.fold = f.foldOf(stack.id(), shown[key])
			stacks[key] = stack
			units = append(units, stack)
		}
		stack.members = append(stack.members, n)
	}
	return unstacked(units)
}

// unstacked draws what would be a stack of one as itself.
func unstacked(units []*box) []*box {
	for _, u := range units {
		if u.kind == models.ItemStack && len(u.members) == 1 {
			u.kind, u.node, u.members, u.fold = models.ItemStep, u.members[0], nil, models.Fold{}
		}
	}
	return units
}
