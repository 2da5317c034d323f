package workflow_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// steps reads "id<parent target status" lines, accepted one ms after the other; "<" alone is no parent.
func steps(lines ...string) []models.Step {
	var all []models.Step
	for i, line := range lines {
		words := strings.Fields(line)
		id, parent, _ := strings.Cut(words[0], "<")
		s := models.Step{ID: id, NodeID: "n", Function: "f-" + id, FunctionKind: "reasoner", Status: models.Succeeded, Attempt: 1, CreatedAt: int64(1000 + i)}
		if parent != "" {
			s.ParentID = &parent
		}
		if len(words) > 1 {
			s.Function = words[1]
		}
		if len(words) > 2 {
			s.Status = models.Status(words[2])
		}
		started, finished := s.CreatedAt, s.CreatedAt+10
		if s.Status != models.Queued && s.Status != models.Pending {
			s.StartedAt = &started
		}
		if s.Status.Terminal() {
			s.FinishedAt = &finished
		}
		all = append(all, s)
	}
	return all
}

func ids(nodes []*workflow.Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.ID)
	}
	return strings.Join(all, " ")
}

// outline writes a graph as each node with its depth, in the order of the tree.
func outline(g *workflow.Graph) string {
	var all []string
	g.Walk(func(n *workflow.Node) { all = append(all, fmt.Sprintf("%s%d", n.ID, n.Depth)) })
	return strings.Join(all, " ")
}

func TestAGraphHasEveryExecutionOnce(t *testing.T) {
	for name, c := range map[string]struct {
		lines          []string
		outline        string
		roots, orphans string
		depth          int
	}{
		"nothing":                    {nil, "", "", "", 0},
		"a chain without parents":    {[]string{"a<", "b<", "c<"}, "a0 b0 c0", "a b c", "", 0},
		"a tree":                     {[]string{"a<", "b<a", "c<a", "d<b"}, "a0 b1 d2 c1", "a", "", 2},
		"a parent after its child":   {[]string{"b<a", "a<"}, "a0 b1", "a", "", 1},
		"a parent nobody knows":      {[]string{"a<", "b<gone", "c<b"}, "a0 b0 c1", "a", "b", 1},
		"its own parent":             {[]string{"a<a", "b<a"}, "a0 b1", "", "a", 1},
		"two that are each other's":  {[]string{"a<b", "b<a"}, "a0 b1", "", "a", 1},
		"a circle with a tail":       {[]string{"x<", "t<c", "a<c", "b<a", "c<b"}, "x0 a0 b1 c2 t3", "x", "a", 3},
		"two circles and an orphan":  {[]string{"a<b", "b<a", "c<d", "d<c", "o<gone"}, "a0 b1 c0 d1 o0", "", "a c o", 1},
		"a tail that comes before":   {[]string{"u<t", "t<a", "b<a", "a<b"}, "b0 a1 t2 u3", "", "b", 3},
		"the same parent many times": {[]string{"a<", "b<a", "c<a", "d<a", "e<d"}, "a0 b1 c1 d1 e2", "a", "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			g := workflow.Build(steps(c.lines...))
			if got := outline(g); got != c.outline {
				t.Errorf("the tree is %q, not %q", got, c.outline)
			}
			if ids(g.Roots) != c.roots || ids(g.Orphans) != c.orphans || g.MaxDepth != c.depth {
				t.Errorf("roots %q, orphans %q, depth %d", ids(g.Roots), ids(g.Orphans), g.MaxDepth)
			}
		})
	}
}

func TestEdgesAreCallsAndTheSequenceOfTheRoots(t *testing.T) {
	g := workflow.Build(steps("a<", "b<a", "o<gone", "c<", "d<c", "e<"))
	var got []string
	for _, e := range g.Edges() {
		got = append(got, e.From+">"+e.To+" "+string(e.Kind))
	}
	want := []string{"a>b call", "c>d call", "a>c sequence", "c>e sequence"}
	if !slices.Equal(got, want) {
		t.Errorf("edges are %v", got)
	}
}

// forged links executions at random, to themselves, to later ones and to nobody.
func forged(n int, seed uint64) []models.Step {
	random := rand.New(rand.NewPCG(seed, 1))
	lines := make([]string, n)
	words := []string{"succeeded", "failed", "running", "waiting", "timeout", "cancelled", "queued"}
	for i := range lines {
		parent := fmt.Sprint(random.IntN(n + n/10 + 1))
		if random.IntN(20) == 0 {
			parent = ""
		}
		lines[i] = fmt.Sprintf("%d<%s f%d %s", i, parent, random.IntN(3), words[random.IntN(len(words))])
	}
	return steps(lines...)
}

func TestWhateverHeadersClaimEverythingIsShownOnce(t *testing.T) {
	for seed := range uint64(200) {
		list := forged(1+int(seed)*3, seed)
		g := workflow.Build(list)
		seen := map[string]int{}
		g.Walk(func(n *workflow.Node) { seen[n.ID]++ })
		if len(seen) != len(list) {
			t.Fatalf("seed %d: %d of %d executions are in the tree", seed, len(seen), len(list))
		}
		for id, n := range seen {
			if n != 1 {
				t.Fatalf("seed %d: %s is there %d times", seed, id, n)
			}
		}
	}
}
