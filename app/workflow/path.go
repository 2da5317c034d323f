package workflow

import (
	"cmp"
	"slices"

	"github.com/agentfield/agentfield/models"
)

// BlockedBy is the path from the root to what a run waits for: the execution that has waited longest for a person, else the one that
// has run longest without waiting for anything it called, else the one that has been in the queue longest. Nil once the run has ended.
func BlockedBy(g *Graph) []string {
	var blocking *Node
	for _, n := range g.Nodes {
		if !n.Status.Terminal() && !n.callsSomething() && (blocking == nil || n.blocksMore(blocking)) {
			blocking = n
		}
	}
	return pathTo(blocking)
}

// callsSomething: it waits for what it has called rather than works.
func (n *Node) callsSomething() bool {
	return n.Status != models.Waiting && slices.ContainsFunc(n.Children, func(c *Node) bool { return !c.Status.Terminal() })
}

func (n *Node) blocksMore(than *Node) bool {
	return cmp.Or(cmp.Compare(n.urgency(), than.urgency()), cmp.Compare(n.since(), than.since()), cmp.Compare(n.Index, than.Index)) < 0
}

func (n *Node) urgency() int {
	switch n.Status { //nolint:exhaustive // the others do not hold anything up
	case models.Waiting:
		return 0
	case models.Running, models.Paused:
		return 1
	}
	return 2
}

// since is when the node came to where it is, as far as its row tells.
func (n *Node) since() int64 {
	switch {
	case n.WaitingSince != nil && n.Status == models.Waiting:
		return *n.WaitingSince
	case n.StartedAt != nil:
		return *n.StartedAt
	}
	return n.CreatedAt
}

// Failure is the path from the worst root along those that failed first below it. Nil unless a root failed or timed out: what was
// caught further down did not fail the run.
func Failure(g *Graph) []string {
	at := firstFailed(g.Roots)
	if at == nil && len(g.Roots) == 0 {
		at = firstFailed(g.Orphans)
	}
	var path []string
	for at != nil {
		path = append(path, at.ID)
		at = firstFailed(at.Children)
	}
	return path
}

// firstFailed prefers failures to time-outs, which often only follow from them.
func firstFailed(nodes []*Node) *Node {
	var first *Node
	for _, n := range nodes {
		if n.failed() && (first == nil || n.failedBefore(first)) {
			first = n
		}
	}
	return first
}

func (n *Node) failed() bool { return n.Status == models.Failed || n.Status == models.Timeout }

func (n *Node) failedBefore(other *Node) bool {
	if n.Status != other.Status {
		return n.Status == models.Failed
	}
	return n.end(0) < other.end(0)
}

// end is when the node ended; now, if it has not.
func (n *Node) end(now int64) int64 {
	if n.FinishedAt == nil {
		return now
	}
	return *n.FinishedAt
}

// endless stands for the end of what has not ended.
const endless = int64(1) << 62

// Critical lists the executions that the length of the run depends on, in the order in which they were accepted: backwards from what
// ended last, at each moment the call whose end was waited for.
func Critical(g *Graph) []string {
	on := make([]bool, len(g.Nodes))
	type stretch struct {
		nodes []*Node
		until int64
	}
	todo := []stretch{{g.Tops(), endless}}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range lastBefore(s.nodes, s.until) {
			on[n.Index] = true
			todo = append(todo, stretch{n.Children, n.end(endless)})
		}
	}
	var path []string
	for _, n := range g.Nodes {
		if on[n.Index] {
			path = append(path, n.ID)
		}
	}
	return path
}

// lastBefore chooses among siblings the one that ended last, then the one that ended last before that began, and so on.
func lastBefore(siblings []*Node, until int64) []*Node {
	if len(siblings) == 0 {
		return nil
	}
	byEnd := slices.Clone(siblings)
	slices.SortStableFunc(byEnd, func(a, b *Node) int { return cmp.Compare(b.end(endless), a.end(endless)) })
	var chosen []*Node
	for _, n := range byEnd {
		if n.end(endless) <= until {
			chosen = append(chosen, n)
			until = n.CreatedAt
		}
	}
	return chosen
}

// pathTo lists the ids from the root down to n.
func pathTo(n *Node) []string {
	var path []string
	for ; n != nil; n = n.Parent {
		path = append(path, n.ID)
	}
	slices.Reverse(path)
	return path
}
