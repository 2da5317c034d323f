package workflow

import (
	"slices"

	"github.com/agentfield/agentfield/models"
)

// Node is one execution in the graph of its run.
type Node struct {
	*models.Step
	Index    int     // its place in Graph.Nodes
	Parent   *Node   // nil for roots and orphans
	Children []*Node // in the order in which they were accepted
	Depth    int     // a root's is 0
	Orphan   bool    // it names a parent that the run does not have, or the link to its parent was cut
	Cut      bool    // its parent was also its descendant
}

// Graph is a run as a forest of calls. Every execution is in it once, whatever its headers claimed.
type Graph struct {
	Nodes    []*Node // in the order in which they were accepted
	Roots    []*Node // executions without a parent
	Orphans  []*Node // executions whose parent is not recorded
	MaxDepth int
	Counts   map[models.Status]int

	byID map[string]*Node
}

// EdgeKind says why two executions are linked.
type EdgeKind string

// The kinds of edges (ruling C19).
const (
	EdgeCall     EdgeKind = "call"     // from the caller to what it called
	EdgeSequence EdgeKind = "sequence" // from an execution without a parent to the next one
)

// Edge links two executions.
type Edge struct {
	From, To string
	Kind     EdgeKind
}

// Build links executions, given in the order in which they were accepted, in linear time. Links that would close a circle are cut at
// the execution of the circle that was accepted first.
func Build(steps []models.Step) *Graph {
	g := &Graph{
		Nodes: make([]*Node, len(steps)), Counts: map[models.Status]int{}, byID: make(map[string]*Node, len(steps)),
	}
	nodes := make([]Node, len(steps))
	for i := range steps {
		n := &nodes[i]
		n.Step, n.Index = &steps[i], i
		g.Nodes[i] = n
		g.byID[n.ID] = n
		g.Counts[n.Status]++
	}
	for _, n := range g.Nodes {
		if n.ParentID != nil {
			n.Parent = g.byID[*n.ParentID]
			n.Orphan = n.Parent == nil
		}
	}
	g.cutCycles()
	g.link()
	g.measure()
	return g
}

// cutCycles walks up from each node once. Whoever comes back to a node of the same walk has found a circle.
func (g *Graph) cutCycles() {
	walk := make([]int, len(g.Nodes)) // the walk that reached a node first; 0: none yet
	for i, n := range g.Nodes {
		at := n
		for at != nil && walk[at.Index] == 0 {
			walk[at.Index] = i + 1
			at = at.Parent
		}
		if at != nil && walk[at.Index] == i+1 {
			first := firstOfCircle(at)
			first.Parent, first.Orphan, first.Cut = nil, true, true
		}
	}
}

func firstOfCircle(n *Node) *Node {
	first := n
	for at := n.Parent; at != n; at = at.Parent {
		if at.Index < first.Index {
			first = at
		}
	}
	return first
}

func (g *Graph) link() {
	for _, n := range g.Nodes {
		switch {
		case n.Parent != nil:
			n.Parent.Children = append(n.Parent.Children, n)
		case n.Orphan:
			g.Orphans = append(g.Orphans, n)
		default:
			g.Roots = append(g.Roots, n)
		}
	}
}

func (g *Graph) measure() {
	g.Walk(func(n *Node) {
		if n.Parent != nil {
			n.Depth = n.Parent.Depth + 1
		}
		g.MaxDepth = max(g.MaxDepth, n.Depth)
	})
}

// Walk visits every node, parents before their children and siblings in order: the roots first, then the orphans.
func (g *Graph) Walk(visit func(*Node)) {
	stack := make([]*Node, 0, len(g.Roots)+len(g.Orphans))
	push := func(nodes []*Node) {
		for _, n := range slices.Backward(nodes) {
			stack = append(stack, n)
		}
	}
	push(g.Orphans)
	push(g.Roots)
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		visit(n)
		push(n.Children)
	}
}

// Find gives the node of an execution, nil when the run does not have it.
func (g *Graph) Find(id string) *Node { return g.byID[id] }

// Tops are the nodes without a recorded parent in the order in which they were accepted.
func (g *Graph) Tops() []*Node {
	if len(g.Orphans) == 0 {
		return g.Roots
	}
	tops := make([]*Node, 0, len(g.Roots)+len(g.Orphans))
	for _, n := range g.Nodes {
		if n.Parent == nil {
			tops = append(tops, n)
		}
	}
	return tops
}

// Edges lists the calls in the order in which they were accepted, then the sequence of the executions without a parent.
func (g *Graph) Edges() []Edge {
	edges := make([]Edge, 0, len(g.Nodes))
	for _, n := range g.Nodes {
		if n.Parent != nil {
			edges = append(edges, Edge{From: n.Parent.ID, To: n.ID, Kind: EdgeCall})
		}
	}
	for i := 1; i < len(g.Roots); i++ {
		edges = append(edges, Edge{From: g.Roots[i-1].ID, To: g.Roots[i].ID, Kind: EdgeSequence})
	}
	return edges
}
