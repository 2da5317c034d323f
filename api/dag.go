package api

import (
	"slices"
	"strings"

	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// dag writes the graph of a run by appending: what is said of an execution is encoded once, in the timeline, and copied to the tree.
type dag struct {
	graph
	notes map[string]workflow.Notes
	light bool
	at    []place // of each execution in the timeline, without its closing bracket
}

type place struct{ from, to int }

// nested is how deep the tree goes. Common parsers give up at a thousand levels of JSON, and forged headers make chains of any length;
// what lies deeper is in the timeline and in the edges like everything else.
const nested = 200

// memberKeys write what every answer about an execution of a run has. Its start, which it returns, is its acceptance until there is one.
func memberKeys(o *object, run *models.Run, n *workflow.Node) (started int64) {
	o.text("workflow_id", run.Workflow())
	o.text("execution_id", n.ID)
	o.maybe("parent_execution_id", n.ParentID)
	o.text("agent_node_id", n.NodeID)
	o.text("reasoner_id", n.Function)
	o.text("status", string(n.Status))
	o.maybe("status_reason", n.StatusReason)
	started = n.CreatedAt
	if n.StartedAt != nil {
		started = *n.StartedAt
	}
	o.instant("started_at", started)
	if n.FinishedAt != nil {
		o.instant("completed_at", *n.FinishedAt)
	}
	o.number("workflow_depth", int64(n.Depth))
	return started
}

// appendFields writes an execution without its brackets and its children.
func (d *dag) appendFields(b []byte, n *workflow.Node) []byte {
	o := object{b: append(b, '{')}
	started := memberKeys(&o, d.run, n)
	if n.FinishedAt != nil {
		o.number("duration_ms", max(*n.FinishedAt-started, 0))
	}
	if d.light {
		return o.b
	}
	notes := d.notes[n.ID]
	o.number("notes_count", int64(notes.Total))
	o.key("notes")
	o.b = append(o.b, '[')
	for i, note := range notes.Newest {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = appendNote(o.b, note)
	}
	o.b = append(o.b, ']')
	if k := len(notes.Newest); k > 0 {
		o.key("latest_note")
		o.b = appendNote(o.b, notes.Newest[k-1])
	}
	return o.b
}

// appendNote adds the time to what was stored with the note.
func appendNote(b []byte, note workflow.Note) []byte {
	stored, ok := strings.CutSuffix(note.Data, "}")
	if !ok || len(stored) < 2 {
		stored = `{"message":""`
	}
	o := object{b: append(b, stored...)}
	o.instant("timestamp", note.At)
	return o.end()
}

func (d *dag) whole() []byte {
	o := newObject(1400*len(d.Nodes) + 1024)
	d.head(o)
	d.timeline(o)
	o.key("dag")
	if root := d.root(); root == nil {
		o.b = append(o.b, "null"...)
	} else {
		o.b = d.appendTree(o.b, root, 0)
	}
	d.links(o)
	return o.end()
}

func (d *dag) lightweight(deliveries []workflow.Delivery) []byte {
	d.light = true
	o := newObject(700*len(d.Nodes) + 1024)
	d.head(o)
	o.text("mode", "lightweight")
	o.value("unique_agent_node_ids", d.agents())
	d.webhooks(o, deliveries)
	d.timeline(o)
	d.links(o)
	return o.end()
}

// root is the earliest execution without a parent.
func (d *dag) root() *workflow.Node {
	tops := d.Roots
	if len(tops) == 0 {
		tops = d.Orphans
	}
	if len(tops) == 0 {
		return nil
	}
	return tops[0]
}

func (d *dag) head(o *object) {
	o.text("root_workflow_id", d.run.Workflow())
	o.text("run_id", d.run.ID)
	o.text("workflow_status", string(overall(d.Counts)))
	o.text("run_status", string(d.run.Status))
	name := d.run.Function
	if root := d.root(); root != nil {
		name = root.Function
	}
	o.text("workflow_name", name)
	o.maybe("session_id", d.run.SessionID)
	o.maybe("actor_id", d.run.ActorID)
	o.number("total_nodes", int64(max(d.run.Total, len(d.Nodes))))
	o.number("max_depth", int64(d.MaxDepth))
	if d.truncated {
		o.truth("truncated", true)
	}
}

// overall is the status of a run as existing clients expect it in its graph (wire.md 7); ours is run_status.
func overall(counts map[models.Status]int) models.Status {
	for _, status := range []models.Status{
		models.Paused, models.Running, models.Waiting, models.Pending, models.Queued, models.Failed, models.Timeout, models.Cancelled,
	} {
		if counts[status] == 0 {
			continue
		}
		if !status.Terminal() && status != models.Paused {
			return models.Running
		}
		return status
	}
	return models.Succeeded
}

// appendTree writes an execution with what it called.
func (d *dag) appendTree(b []byte, n *workflow.Node, depth int) []byte {
	b = append(b, b[d.at[n.Index].from:d.at[n.Index].to]...)
	if len(n.Children) > 0 && depth == nested {
		return append(b, `,"children":[],"children_omitted":true}`...)
	}
	b = append(b, `,"children":[`...)
	for i, child := range n.Children {
		if i > 0 {
			b = append(b, ',')
		}
		b = d.appendTree(b, child, depth+1)
	}
	return append(b, ']', '}')
}

func (d *dag) timeline(o *object) {
	o.key("timeline")
	o.b = append(o.b, '[')
	d.at = make([]place, len(d.Nodes))
	for i, n := range d.Nodes {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		d.at[i].from = len(o.b)
		o.b = d.appendFields(o.b, n)
		d.at[i].to = len(o.b)
		o.b = append(o.b, '}')
	}
	o.b = append(o.b, ']')
}

func (d *dag) links(o *object) {
	o.key("roots")
	o.b = append(o.b, '[')
	for i, n := range d.Tops() {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = appendText(o.b, n.ID)
	}
	o.b = append(o.b, ']')
	o.key("edges")
	o.b = append(o.b, '[')
	for i, e := range d.Edges() {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		one := object{b: append(o.b, '{')}
		one.text("from", e.From)
		one.text("to", e.To)
		one.text("kind", string(e.Kind))
		o.b = one.end()
	}
	o.b = append(o.b, ']')
}

func (d *dag) agents() []string {
	ids := []string{}
	seen := map[string]bool{}
	for _, n := range d.Nodes {
		if !seen[n.NodeID] {
			seen[n.NodeID] = true
			ids = append(ids, n.NodeID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (d *dag) webhooks(o *object, deliveries []workflow.Delivery) {
	type failedDelivery struct {
		ExecutionID string  `json:"execution_id"`
		EventType   string  `json:"event_type"`
		Status      string  `json:"status"`
		Attempts    int     `json:"attempts"`
		HTTPStatus  *int    `json:"http_status,omitempty"`
		Error       *string `json:"error_message,omitempty"`
	}
	var failures []failedDelivery
	for _, x := range deliveries {
		if x.Status == "failed" {
			failures = append(failures, failedDelivery{x.ExecutionID, x.Event, x.Status, x.Attempt, x.LastStatus, x.LastError})
		}
	}
	steps := 0
	for _, n := range d.Nodes {
		if n.HasWebhook {
			steps++
		}
	}
	o.value("webhook_summary", map[string]int{"steps_with_webhook": steps, "total_deliveries": len(deliveries), "failed_deliveries": len(failures)})
	if len(failures) > 0 {
		o.value("webhook_failures", failures)
	}
}
