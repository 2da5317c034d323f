package executions

import (
	"net/url"
	"strconv"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/values"
)

// ComparePage puts two executions beside each other.
type ComparePage struct {
	Frame layout.Page
	IDs   [2]string // as the address names them
	Sides [2]*Side  // nil: not named yet
}

// Side is one of the two.
type Side struct {
	Execution *models.Execution
	Input     []byte
	Output    []byte // its result, else what it said beside its error, else what it had so far
}

// ComparePath is the address on which two executions are compared.
func ComparePath(a, b string) string {
	return "/executions/compare?" + url.Values{"a": {a}, "b": {b}}.Encode()
}

func (p ComparePage) now() time.Time { return p.Frame.Now }

func (p ComparePage) complete() bool { return p.Sides[0] != nil && p.Sides[1] != nil }

// comparedUpTo is the largest body that is compared by path: beyond it nobody reads the list.
const comparedUpTo = 256 << 10

func smallEnough(a, b []byte) bool { return len(a) <= comparedUpTo && len(b) <= comparedUpTo }

// bodies are the parts whose content is compared.
func (p ComparePage) bodies() []struct {
	Title, ID string
	A, B      []byte
} {
	a, b := p.Sides[0], p.Sides[1]
	return []struct {
		Title, ID string
		A, B      []byte
	}{{"Input", "input", a.Input, b.Input}, {"Output", "output", a.Output, b.Output}}
}

// comparedRow is a line of the table of facts.
type comparedRow struct {
	label string
	sides [2]string
}

func (r comparedRow) differs() bool { return r.sides[0] != r.sides[1] }

func (p ComparePage) rows() []comparedRow {
	var rows []comparedRow
	add := func(label string, of func(e *models.Execution) string) {
		rows = append(rows, comparedRow{label, [2]string{of(p.Sides[0].Execution), of(p.Sides[1].Execution)}})
	}
	add("Status", func(e *models.Execution) string { return components.LookOf(e.Status).Label })
	add("Target", func(e *models.Execution) string { return e.Target() })
	add("In line", func(e *models.Execution) string {
		if took, ok := queuedFor(e); ok {
			return components.Span(took)
		}
		return "not started"
	})
	add("Took", func(e *models.Execution) string {
		if d := e.DurationMs(); d != nil {
			return spanMs(*d)
		}
		return "not ended"
	})
	add("Attempts", func(e *models.Execution) string { return strconv.Itoa(e.Attempt) })
	add("Error", func(e *models.Execution) string { return components.FirstLine(value(e.ErrorMessage)) })
	add("Session", func(e *models.Execution) string { return value(e.SessionID) })
	add("Actor", func(e *models.Execution) string { return value(e.ActorID) })
	return rows
}

func (p ComparePage) changes(a, b []byte) []values.Change { return values.Diff(a, b) }
