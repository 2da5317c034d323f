package workflow_test

import (
	"fmt"
	"testing"

	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// sums holds a picture to what all pictures have in common, and gives how many executions it accounts for.
func sums(t *testing.T, p *models.Picture, limit int) int {
	t.Helper()
	if len(p.Items) > limit {
		t.Errorf("%d items are drawn, more than %d", len(p.Items), limit)
	}
	seen, total := map[string]bool{}, 0
	places := map[[2]int]string{}
	for _, item := range p.Items {
		if seen[item.ID] {
			t.Errorf("%q is drawn twice", item.ID)
		}
		seen[item.ID] = true
		if item.Parent != "" && !seen[item.Parent] {
			t.Errorf("%q comes before its parent %q", item.ID, item.Parent)
		}
		at := [2]int{item.X, item.Y}
		if places[at] != "" {
			t.Errorf("%q lies on %q", item.ID, places[at])
		}
		places[at] = item.ID
		if item.X+models.ItemWidth > p.Width || item.Y+models.ItemHeight > p.Height {
			t.Errorf("%q lies outside of the picture", item.ID)
		}
		total += item.Count + item.Hidden
		counted := 0
		for _, c := range item.Counts {
			counted += c.Count
		}
		want := item.Count
		if item.Kind == models.ItemStep {
			want += item.Hidden
		}
		if counted != want {
			t.Errorf("%q stands for %d+%d executions and counts %d", item.ID, item.Count, item.Hidden, counted)
		}
	}
	return total
}

func TestEveryPictureAccountsForEveryExecution(t *testing.T) {
	for seed := range uint64(150) {
		list := forged(1+int(seed)*seed2(seed), seed)
		g := workflow.Build(list)
		for _, v := range []workflow.View{
			{},
			{Limit: 20},
			{Selected: list[len(list)/2].ID, Query: "f1"},
			{Open: []string{"~50", "0", "1", "2~", "3*100", "~orphans", "~orphans~100", "nobody", "5*", "~", "*", ""}, Closed: []string{"4", list[0].ID}},
			{Statuses: []models.Status{models.Failed}, Depth: 2},
		} {
			p := g.Fold(v)
			limit := v.Limit
			if limit == 0 {
				limit = 200
			}
			if total := sums(t, p, limit); len(p.Trail) == 0 && total != len(list) {
				t.Errorf("seed %d, %+v: the picture accounts for %d of %d", seed, v, total, len(list))
			}
			if t.Failed() {
				t.Fatalf("seed %d, %+v", seed, v)
			}
		}
	}
}

// seed2 makes some of the graphs large.
func seed2(seed uint64) int { return 1 + int(seed%7)*5 }

func find(t *testing.T, p *models.Picture, id string) models.Item {
	t.Helper()
	for _, item := range p.Items {
		if item.ID == id {
			return item
		}
	}
	t.Fatalf("%q is not drawn", id)
	return models.Item{}
}

// fan is a root with n calls of one target.
func fan(n int, statuses map[int]string) []models.Step {
	lines := []string{"r<"}
	for i := range n {
		status := statuses[i]
		if status == "" {
			status = "succeeded"
		}
		lines = append(lines, fmt.Sprintf("c%d<r analyze %s", i, status))
	}
	return steps(lines...)
}

func TestManySiblingsOfOneTargetAreStacked(t *testing.T) {
	if p := workflow.Build(fan(6, nil)).Fold(workflow.View{}); len(p.Items) != 7 {
		t.Errorf("six siblings make %d items", len(p.Items))
	}
	g := workflow.Build(fan(128, map[int]string{5: "failed", 9: "running", 10: "running"}))
	p := g.Fold(workflow.View{})
	if len(p.Items) != 4 {
		t.Fatalf("%d items are drawn, not the root, the stack, the failed one and the one that the run waits for: %+v", len(p.Items), p.Items)
	}
	stack := find(t, p, "c0*")
	if stack.Count != 126 || stack.Name != "analyze" || fmt.Sprint(stack.Counts) != "[{running 1} {succeeded 125}]" {
		t.Errorf("the stack is %+v", stack)
	}
	if find(t, p, "c5").Step.Status != models.Failed {
		t.Error("the failed one is not drawn beside the stack")
	}
	p = g.Fold(workflow.View{Open: []string{stack.Fold.Open}})
	again := find(t, p, "c0*")
	if len(p.Items) != 54 || again.Count != 76 || again.Fold.Was != "c0*50" || again.Fold.Open != "c0*100" {
		t.Errorf("opened, %d items, the stack is %+v", len(p.Items), again)
	}
	if find(t, p, "c49").Y >= again.Y || find(t, p, "r").Y != find(t, p, "c0").Y {
		t.Error("the root stands on the row of its first child, the rest of the stack last")
	}
}

func TestWhatIsWantedIsDrawnHoweverDeep(t *testing.T) {
	lines := []string{"r<"}
	for i := range 30 {
		lines = append(lines, fmt.Sprintf("a%d<r wide%d", i, i))
		for j := range 30 {
			lines = append(lines, fmt.Sprintf("b%d-%d<a%d deep%d", i, j, i, j))
			lines = append(lines, fmt.Sprintf("c%d-%d<b%d-%d last", i, j, i, j))
		}
	}
	list := steps(lines...)
	broken := "kaputt"
	for i := range list {
		if list[i].ID == "c29-29" {
			list[i].ErrorMessage = &broken
		}
	}
	g := workflow.Build(list)
	for name, v := range map[string]workflow.View{
		"selected": {Selected: "c29-29"}, "found by its error": {Query: "KAPUTT"}, "opened": {Open: []string{"a29", "b29-29"}},
	} {
		p := g.Fold(v)
		sums(t, p, 200)
		if item := find(t, p, "c29-29"); item.Parent != "b29-29" || item.Level != 4 {
			t.Errorf("%s: %+v", name, item)
		}
	}
	if p := g.Fold(workflow.View{Query: "kaputt"}); p.Matches != 1 || !find(t, p, "c29-29").Match {
		t.Errorf("%d matches", p.Matches)
	}
	p := g.Fold(workflow.View{Focus: "b29-29"})
	if len(p.Items) != 2 || len(p.Trail) != 2 || p.Trail[0].ID != "r" || p.Trail[1].ID != "a29" {
		t.Errorf("focused: %d items, trail %v", len(p.Items), p.Trail)
	}
	if p := g.Fold(workflow.View{Closed: []string{"r"}}); len(p.Items) != 1 || p.Items[0].Hidden != len(list)-1 || p.Items[0].Fold.Open != "r" {
		t.Errorf("closed: %+v", p.Items)
	}
}
