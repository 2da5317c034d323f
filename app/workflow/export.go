package workflow

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agentfield/agentfield/models"
)

// Mermaid writes a graph for documents that draw Mermaid: calls as arrows, the sequence of the executions without a parent dotted.
func Mermaid(g *Graph, now int64) string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "  n%d[\"%s<br/>%s · %s · %s\"]:::%s\n", n.Index, mermaidText(n.Function), mermaidText(n.NodeID), n.Status, Lasted(n.took(now)), n.Status)
	}
	for _, n := range g.Nodes {
		if n.Parent != nil {
			fmt.Fprintf(&b, "  n%d --> n%d\n", n.Parent.Index, n.Index)
		}
	}
	for i := 1; i < len(g.Roots); i++ {
		fmt.Fprintf(&b, "  n%d -.-> n%d\n", g.Roots[i-1].Index, g.Roots[i].Index)
	}
	for _, status := range models.Statuses {
		if g.Counts[status] > 0 {
			fmt.Fprintf(&b, "  classDef %s stroke:%s,stroke-width:2px\n", status, inks[status])
		}
	}
	return b.String()
}

// inks are the colours of statuses in exported files, readable on white.
var inks = map[models.Status]string{
	models.Pending: "#6b7280", models.Queued: "#6b7280", models.Running: "#1d4ed8", models.Waiting: "#b45309", models.Paused: "#7c3aed",
	models.Succeeded: "#15803d", models.Failed: "#b91c1c", models.Timeout: "#c2410c", models.Cancelled: "#4b5563",
}

// mermaidText keeps a name from being read as syntax. Mermaid writes characters as #code;.
func mermaidText(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < ' ':
			b.WriteByte(' ')
		case strings.ContainsRune("\"#<>&`;{}[]()|\\%", r):
			fmt.Fprintf(&b, "#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// took is how long the node has been there, from its acceptance to its end.
func (n *Node) took(now int64) int64 { return n.end(now) - n.CreatedAt }

// maxIndent bounds how far lines are indented: a chain of thousands would be mostly indentation.
const maxIndent = 40

// Text writes a graph as a tree of lines for terminals, chats and screen readers.
func Text(g *Graph, r *models.Run, story models.RunStory, now int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "run %s  %s  %s\n", oneLine(r.Workflow()), r.Status, count(g.Counts))
	for _, line := range []string{story.Reason, story.Summary} {
		if line != "" {
			b.WriteString(oneLine(line) + "\n")
		}
	}
	b.WriteByte('\n')
	t := tree{b: &b, now: now}
	for _, n := range g.Roots {
		t.write(n)
	}
	if len(g.Orphans) > 0 {
		b.WriteString("parent not recorded:\n")
	}
	for _, n := range g.Orphans {
		t.write(n)
	}
	return b.String()
}

type tree struct {
	b   *strings.Builder
	now int64
}

// write goes down without recursion: forged chains may be as long as a run.
func (t tree) write(top *Node) {
	type line struct {
		n            *Node
		stem, branch string
	}
	todo := []line{{n: top}}
	for len(todo) > 0 {
		l := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		t.line(l.stem+l.branch, l.n)
		below := l.stem
		switch l.branch {
		case "├─ ":
			below += "│  "
		case "└─ ":
			below += "   "
		}
		if l.n.Depth >= maxIndent {
			below = l.stem
		}
		for i, child := range slices.Backward(l.n.Children) {
			branch := "├─ "
			if i == len(l.n.Children)-1 {
				branch = "└─ "
			}
			todo = append(todo, line{child, below, branch})
		}
	}
}

func (t tree) line(stem string, n *Node) {
	fmt.Fprintf(t.b, "%s%s  %s  %s", stem, oneLine(n.Function), n.Status, Lasted(n.took(t.now)))
	if n.Depth > maxIndent {
		fmt.Fprintf(t.b, "  level %d", n.Depth+1)
	}
	if n.Attempt > 1 {
		fmt.Fprintf(t.b, "  attempt %d", n.Attempt)
	}
	if n.Cut {
		t.b.WriteString("  (its parent is below it)")
	}
	fmt.Fprintf(t.b, "  %s  %s", oneLine(n.NodeID), oneLine(n.ID))
	if n.ErrorMessage != nil && n.failed() {
		t.b.WriteString("  " + oneLine(short(*n.ErrorMessage, 120)))
	}
	t.b.WriteByte('\n')
}

// oneLine keeps what agents send from moving the cursor of a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, s)
}
