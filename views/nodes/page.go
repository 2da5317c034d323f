// Package nodes has the pages of the registered agents: how each copy is doing, what waits for it, and what an operator may do about it.
package nodes

import (
	"net/url"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/layout"
)

// State is how a node or one of its instances is doing.
type State string

// The states, the best first.
const (
	Ready    State = "ready"
	Degraded State = "degraded"
	Draining State = "draining"
	Down     State = "down"
)

// look is how a state is drawn: family, icon and label.
func (s State) look() (family, icon, label string) {
	switch s {
	case Ready:
		return "st-ok", "succeeded", "Ready"
	case Degraded:
		return "st-wait", "warning", "Degraded"
	case Draining:
		return "st-idle", "hourglass", "Draining"
	case Down:
		return "st-bad", "failed", "Down"
	}
	return "st-idle", "info", string(s)
}

// Node is one registered agent.
type Node struct {
	ID        string
	State     State
	Reason    string // why it is not ready; often empty
	Versions  []string
	Instances []Instance
	Functions []Function
	Seen      int64 // ms: the newest heartbeat
	Load      Load
	Limits    Limits
}

// Limits of a node or of a function; 0: none of its own.
type Limits struct{ AtOnce, Waiting, PerMinute int }

// sentence says what they come to; empty when there are none.
func (l Limits) sentence() string {
	var parts []string
	if l.AtOnce > 0 {
		parts = append(parts, components.Number(l.AtOnce)+" at once")
	}
	if l.PerMinute > 0 {
		parts = append(parts, components.Number(l.PerMinute)+" a minute")
	}
	if l.Waiting > 0 {
		parts = append(parts, components.Number(l.Waiting)+" may wait")
	}
	return strings.Join(parts, ", ")
}

// Load is what a node has to do. Numbers stop at Most.
type Load struct{ Waiting, Queued, Running, Failed int }

// Most is where counting stops.
const Most = 1000

// Instance is one running copy.
type Instance struct {
	ID       string
	URL      string
	Version  string
	State    State
	Reason   string
	Seen     int64 // ms
	InFlight int64 // calls that this replica has open
	Resting  []string
	Draining bool
}

// Function is what the node can be called for.
type Function struct {
	Name, Kind, Description string
	Input, Output           string // JSON Schema, indented; empty when there is none
	Idempotent              bool
	Limits                  Limits
	Tags                    []string
}

// ListPage is /nodes.
type ListPage struct {
	Frame layout.Page
	Nodes []Node
}

// ShowPage is /nodes/{id}.
type ShowPage struct {
	Frame   layout.Page
	Node    Node
	Recent  []*models.Execution
	P50     int64 // ms, of the newest executions that succeeded; 0: none did
	P95     int64
	Timed   int // executions behind P50 and P95
	Operate bool
	Problem string
	Said    string
}

func (p ListPage) now() time.Time { return p.Frame.Now }
func (p ShowPage) now() time.Time { return p.Frame.Now }

// Href is the page of a node.
func Href(id string) string { return "/nodes/" + url.PathEscape(id) }

// executions is the list of what a node does, narrowed by status.
func executions(id, status string) string {
	q := url.Values{"node": {id}}
	if status != "" {
		q.Set("status", status)
	}
	return "/executions?" + q.Encode()
}

// failures is the list of what it failed lately.
func failures(id string) string { return executions(id, "failed,timeout") + "&since=1h" }

func (n Node) up() (up int) {
	for _, i := range n.Instances {
		if i.State == Ready || i.State == Degraded {
			up++
		}
	}
	return up
}

func (n Node) draining() (draining int) {
	for _, i := range n.Instances {
		if i.Draining {
			draining++
		}
	}
	return draining
}

// number writes a count that may have stopped.
func number(n int) string {
	if n > Most {
		return components.Number(Most) + "+"
	}
	return components.Number(n)
}

// share is how full the node is, in percent, for the bar; 0 without a limit.
func (n Node) share() int {
	if n.Limits.AtOnce <= 0 {
		return 0
	}
	return min(100, n.Load.Running*100/n.Limits.AtOnce)
}

func (n Node) full() bool { return n.Limits.AtOnce > 0 && n.Load.Running >= n.Limits.AtOnce }

func span(ms int64) string { return components.Span(time.Duration(ms) * time.Millisecond) }

// registerCurl is what an agent without an SDK sends.
func registerCurl(base string) string {
	return components.Command{
		Method: "POST", URL: base + "/api/v1/nodes",
		Body: `{"id":"my-agent","base_url":"http://127.0.0.1:9000","reasoners":[{"id":"greet"}]}`,
	}.Curl()
}

func callCurl(base, node, function string) string {
	return components.FirstCall(base, node+"."+function)
}
