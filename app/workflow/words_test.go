package workflow_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// timed sets when each execution was accepted, started and ended, in ms: "accepted started ended", with - for not yet.
func timed(t *testing.T, list []models.Step, times ...string) []models.Step {
	t.Helper()
	for i, text := range times {
		var accepted int64
		var started, ended string
		if _, err := fmt.Sscan(text, &accepted, &started, &ended); err != nil {
			t.Fatal(err)
		}
		list[i].CreatedAt, list[i].StartedAt, list[i].FinishedAt = accepted, instantOf(t, started), instantOf(t, ended)
	}
	return list
}

func instantOf(t *testing.T, text string) *int64 {
	t.Helper()
	if text == "-" {
		return nil
	}
	var ms int64
	if _, err := fmt.Sscan(text, &ms); err != nil {
		t.Fatal(err)
	}
	return &ms
}

func TestPathsThroughARun(t *testing.T) {
	for name, c := range map[string]struct {
		lines, times               []string
		critical, blocked, failure string
	}{
		"one after the other": {
			[]string{"r< f succeeded", "a<r f succeeded", "b<r f succeeded"}, []string{"0 0 100", "5 5 40", "45 45 95"}, "r a b", "", "",
		},
		"the longer of two at once": {
			[]string{"r< f succeeded", "a<r f succeeded", "b<r f succeeded"}, []string{"0 0 100", "5 5 40", "5 5 95"}, "r b", "", "",
		},
		"what outlived its caller decided nothing": {
			[]string{"r< f succeeded", "a<r f succeeded", "b<r f succeeded"}, []string{"0 0 100", "5 5 90", "5 5 500"}, "r a", "", "",
		},
		"a chain of roots": {
			[]string{"a< f succeeded", "b< f failed"}, []string{"0 0 10", "20 20 30"}, "a b", "", "b",
		},
		"waiting goes before running": {
			[]string{"r< f running", "a<r f running", "b<r f waiting", "c<b f succeeded"}, []string{"0 0 -", "5 5 -", "6 6 -", "7 7 9"}, "r a", "r b", "",
		},
		"the slowest of what runs, not who waits for it": {
			[]string{"r< f running", "a<r f running", "b<r f running"}, []string{"0 0 -", "5 5 -", "4 4 -"}, "r a", "r b", "",
		},
		"only the queue": {
			[]string{"r< f running", "a<r f queued"}, []string{"0 0 -", "5 - -"}, "r a", "r a", "",
		},
		"the first that failed, as deep as it goes": {
			[]string{"r< f failed", "a<r f failed", "b<r f failed", "c<b f timeout", "d<b f failed"},
			[]string{"0 0 100", "5 5 90", "5 5 80", "6 6 60", "6 6 70"},
			"r a", "", "r b d",
		},
		"what was caught failed nothing": {
			[]string{"r< f succeeded", "a<r f failed"}, []string{"0 0 100", "5 5 90"}, "r a", "", "",
		},
		"nobody's child": {
			[]string{"a<gone f failed"}, []string{"0 0 100"}, "a", "", "a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := workflow.Build(timed(t, steps(c.lines...), c.times...))
			for what, pair := range map[string][2]string{
				"critical":   {strings.Join(workflow.Critical(g), " "), c.critical},
				"blocked by": {strings.Join(workflow.BlockedBy(g), " "), c.blocked},
				"failure":    {strings.Join(workflow.Failure(g), " "), c.failure},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s is %q, not %q", what, pair[0], pair[1])
				}
			}
		})
	}
}

func TestARunIsToldInWords(t *testing.T) {
	message := "no such ticket\nat line 4"
	for name, c := range map[string]struct {
		lines, times    []string
		spells          workflow.Spells
		change          func([]models.Step)
		now             int64
		reason, summary string
	}{
		"ended": {
			[]string{"r< plan succeeded", "a<r deep succeeded", "b<r review succeeded"},
			[]string{"0 0 100000", "1000 1000 20000", "21000 43000 99000"},
			workflow.Spells{"b": {{models.Running, 43_000}, {models.Waiting, 50_000}, {models.Running, 95_000}}},
			func(s []models.Step) { s[1].Attempt, s[2].Rounds = 3, 1 }, 0,
			"", "The run took 1 min 40 s; 45 % was waiting for people, 19 % in deep; 2 retries; slowest wait: queue of n, 22.0 s.",
		},
		"waiting": {
			[]string{"r< plan running", "a<r review waiting"},
			[]string{"0 0 -", "10 10 -"},
			nil,
			func(s []models.Step) { at := int64(60_000); s[1].WaitingSince, s[1].Rounds = &at, 1 }, 7_260_000,
			"Blocked: n.review has been waiting for approval for 2 h 0 min", "The run has been on its way for 2 h 1 min; 99 % was waiting for people, 1 % in review.",
		},
		"failed": {
			[]string{"r< plan failed", "a<r look failed"},
			[]string{"0 0 400", "100 100 300"},
			nil,
			func(s []models.Step) { s[1].ErrorMessage = &message }, 0,
			"Failed: n.look failed: no such ticket", "The run took 400 ms; 50 % in look.",
		},
		"timed out": {[]string{"r< plan timeout"}, []string{"0 0 400"}, nil, nil, 0, "Failed: n.plan exceeded its limit", "The run took 400 ms; 100 % in plan."},
		"queued":    {[]string{"r< plan queued"}, []string{"0 - -"}, nil, nil, 500, "Queued: n.plan has been waiting for a place for 500 ms", "The run has been on its way for 500 ms."},
		"pending":   {[]string{"r< plan pending"}, []string{"0 - -"}, nil, nil, 86_400_000, "Pending: plan has been without a healthy instance of n for 1 d 0 h", "The run has been on its way for 1 d 0 h; slowest wait: queue of n, 1 d 0 h."},
		"running":   {[]string{"r< plan running"}, []string{"0 100 -"}, nil, nil, 500, "Running: n.plan has been at work for 400 ms", "The run has been on its way for 500 ms; 80 % in plan."},
		"paused":    {[]string{"r< plan paused"}, []string{"0 100 -"}, nil, nil, 500, "Paused: n.plan has been held back by an operator for 400 ms", "The run has been on its way for 500 ms."},
		"nothing":   {nil, nil, nil, nil, 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			list := timed(t, steps(c.lines...), c.times...)
			if c.change != nil {
				c.change(list)
			}
			story := workflow.Explain(workflow.Build(list), c.spells, c.now)
			if story.Reason != c.reason {
				t.Errorf("the reason is %q, not %q", story.Reason, c.reason)
			}
			if story.Summary != c.summary {
				t.Errorf("the summary is %q, not %q", story.Summary, c.summary)
			}
		})
	}
}

// hostile names come from agents and callers.
func hostile() []models.Step {
	list := steps(`r< f failed`, `a<r f succeeded`, "b< f running", "o<gone f queued")
	text := "<script>\"]; click n0 \x1b[31m\u202eevil`%{}\n--> n1"
	for i := range list {
		list[i].Function, list[i].NodeID, list[i].ErrorMessage = text, text, &text
	}
	return list
}

func TestExportsCarryHostileNamesAsText(t *testing.T) {
	g := workflow.Build(hostile())
	mermaid := workflow.Mermaid(g, 2000)
	if strings.ContainsAny(strings.ReplaceAll(mermaid, "<br/>", ""), "<\x1b`%") || strings.Count(mermaid, "\"") != 2*len(g.Nodes) ||
		strings.Count(mermaid, "\n") != 1+4+1+1+4 {
		t.Errorf("%s", mermaid)
	}
	if !strings.Contains(mermaid, "  n0 --> n1\n  n0 -.-> n2\n") {
		t.Errorf("edges are missing:\n%s", mermaid)
	}
	drawing := string(workflow.SVG(g.Fold(workflow.View{}), "<Run>"))
	if strings.Contains(drawing, "<script") || strings.Contains(drawing, "\x1b") {
		t.Errorf("%s", drawing)
	}
	for decoder := xml.NewDecoder(strings.NewReader(drawing)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not an XML file: %v\n%s", err, drawing)
		}
	}
	text := workflow.Text(g, &models.Run{ID: "run_1", Status: models.Failed}, models.RunStory{Reason: "x\x1b[2J"}, 2000)
	if strings.ContainsAny(text, "\x1b\u202e") || strings.Count(text, "\n") != 3+4+1 {
		t.Errorf("%s", text)
	}
}

func TestTextIsATreeOfLines(t *testing.T) {
	list := steps("r< plan failed", "a<r look succeeded", "c<a read succeeded", "b<r write failed", "z< again succeeded", "o<gone lost succeeded")
	list[3].Attempt = 2
	message := "disk full"
	list[3].ErrorMessage = &message
	name := "wf_1"
	got := workflow.Text(workflow.Build(list), &models.Run{ID: "run_1", WorkflowID: &name, Status: models.Failed}, models.RunStory{Reason: "Why.", Summary: "What."}, 2000)
	want := `run wf_1  failed  4 succeeded, 2 failed
Why.
What.

plan  failed  10 ms  n  r
├─ look  succeeded  10 ms  n  a
│  └─ read  succeeded  10 ms  n  c
└─ write  failed  10 ms  attempt 2  n  b  disk full
again  succeeded  10 ms  n  z
parent not recorded:
lost  succeeded  10 ms  n  o
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Ten thousand executions in the shapes that hurt: everything that is made of them stays bounded, and nothing goes round in circles.
func TestTenThousandExecutionsInAnyShape(t *testing.T) {
	const n = 10_000
	shapes := map[string]func(i int) string{
		"a chain":               func(i int) string { return fmt.Sprintf("%d<%d f running", i, i-1) },
		"a chain backwards":     func(i int) string { return fmt.Sprintf("%d<%d f failed", i, i+1) },
		"one circle":            func(i int) string { return fmt.Sprintf("%d<%d f succeeded", i, (i+1)%n) },
		"circles of two":        func(i int) string { return fmt.Sprintf("%d<%d f%d waiting", i, i^1, i) },
		"its own parent":        func(i int) string { return fmt.Sprintf("%d<%d f failed", i, i) },
		"children of nobody":    func(i int) string { return fmt.Sprintf("%d<gone%d f%d failed", i, i, i) },
		"roots of one target":   func(i int) string { return fmt.Sprintf("%d< f running", i) },
		"roots of many targets": func(i int) string { return fmt.Sprintf("%d< f%d running", i, i) },
		"a fan":                 func(i int) string { return fmt.Sprintf("%d<0 f%d succeeded", i, i%3) },
	}
	for name, line := range shapes {
		t.Run(name, func(t *testing.T) {
			lines := make([]string, n)
			for i := range lines {
				lines[i] = line(i)
			}
			list := steps(lines...)
			g := workflow.Build(list)
			for _, v := range []workflow.View{{}, {Selected: fmt.Sprint(n / 2), Query: "9"}, {Open: []string{"~100", "0", "0*50", "~orphans~150"}}} {
				p := g.Fold(v)
				if total := sums(t, p, 200); len(p.Trail) == 0 && total != n {
					t.Errorf("the picture accounts for %d", total)
				}
				if v.Selected != "" && !find(t, p, v.Selected).Selected {
					t.Error("what is selected is not drawn as such")
				}
			}
			story := workflow.Explain(g, nil, 5000)
			if len(workflow.Timeline(g, nil, 5000).Rows) != n || story.Summary == "" {
				t.Error("not everything is on the timeline")
			}
			for what, size := range map[string]int{
				"text": len(workflow.Text(g, &models.Run{ID: "r"}, story, 5000)), "Mermaid": len(workflow.Mermaid(g, 5000)), "SVG": len(workflow.SVG(g.Fold(workflow.View{}), "r")),
			} {
				if size > 4<<20 {
					t.Errorf("%s has %d bytes", what, size)
				}
			}
		})
	}
}
