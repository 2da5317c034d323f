package api

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// tree is the part of the graph that is nested.
type tree struct {
	ID       string `json:"execution_id"`
	Children []tree `json:"children"`
	Omitted  bool   `json:"children_omitted"`
}

func (n tree) size() (nodes, depth int, omitted bool) {
	nodes, omitted = 1, n.Omitted
	for _, child := range n.Children {
		below, levels, more := child.size()
		nodes, depth, omitted = nodes+below, max(depth, levels), omitted || more
	}
	return nodes, depth + 1, omitted
}

// Forged headers make chains and circles of any length. The answer is JSON that common parsers read, with everything in its timeline.
func TestTheGraphOfForgedRunsCanBeRead(t *testing.T) {
	t.Parallel()
	const size = 10_000
	for name, c := range map[string]struct {
		parent             func(i int) int // -1: none
		nodes, depth       int
		omitted            bool
		roots, calls, next int
	}{
		"a chain":      {func(i int) int { return i - 1 }, nested + 1, nested + 1, true, 1, size - 1, 0},
		"a circle":     {func(i int) int { return (i + 1) % size }, nested + 1, nested + 1, true, 1, size - 1, 0},
		"pairs":        {func(i int) int { return i ^ 1 }, 2, 2, false, size / 2, size / 2, 0},
		"own parents":  {func(i int) int { return i }, 1, 1, false, size, 0, 0},
		"a fan":        {func(i int) int { return min(i, 1) - 1 }, size, 2, false, 1, size - 1, 0},
		"only roots":   {func(int) int { return -1 }, 1, 1, false, size, 0, size - 1},
		"only orphans": {func(int) int { return size + 5 }, 1, 1, false, size, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := make([]models.Step, size)
			for i := range steps {
				steps[i] = models.Step{ID: fmt.Sprint("exec_", i), NodeID: "n", Function: "f", Status: models.Failed, CreatedAt: int64(i)}
				if p := c.parent(i); p >= 0 {
					parent := fmt.Sprint("exec_", p)
					steps[i].ParentID = &parent
				}
			}
			d := dag{graph: graph{Graph: workflow.Build(steps), run: &models.Run{ID: "run_1", Total: size}, steps: steps}}
			var got struct {
				DAG      tree `json:"dag"`
				Timeline []any
				Roots    []string
				Edges    []struct{ Kind string }
			}
			text := d.whole()
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			nodes, depth, omitted := got.DAG.size()
			calls := 0
			for _, e := range got.Edges {
				if e.Kind == string(workflow.EdgeCall) {
					calls++
				}
			}
			if nodes != c.nodes || depth != c.depth || omitted != c.omitted {
				t.Errorf("the tree has %d nodes on %d levels, omitted %t", nodes, depth, omitted)
			}
			if len(got.Timeline) != size || len(got.Roots) != c.roots || calls != c.calls || len(got.Edges)-calls != c.next {
				t.Errorf("%d on the timeline, %d roots, %d calls, %d in sequence", len(got.Timeline), len(got.Roots), calls, len(got.Edges)-calls)
			}
			if len(text) > 600*size {
				t.Errorf("%d bytes", len(text))
			}
		})
	}
}
