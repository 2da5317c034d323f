package approvals

import (
	"slices"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
)

// shown reports whether a row is the one that is open beside the list.
func (p Page) shown(r Row) bool { return p.Item != nil && p.Item.Approval.ID == r.Approval.ID }

// waiting reports whether the list has something to choose from.
func (p Page) waiting() bool {
	return slices.ContainsFunc(p.Rows, func(r Row) bool {
		return r.Approval.Status == models.ApprovalPending || p.Filter.state() == StateDecided
	})
}

// orders are the orders that a tab can have.
func (p Page) orders() []components.Option {
	if p.Filter.state() == StateDecided {
		return []components.Option{{Label: "Decided last"}}
	}
	return []components.Option{{Label: "Time left"}, {Value: "-created_at", Label: "Newest"}}
}

// clear is the headline of an empty queue.
func (p Page) clear() string {
	switch p.Filter.state() {
	case StateMine:
		return "You have claimed nothing"
	case StateExpiring:
		return "Nothing expires within the hour"
	case StateDecided:
		return "Nothing has been decided yet"
	}
	return "The queue is clear"
}

// teach is the command with which an execution asks for a decision.
func (p Page) teach() string {
	return components.Command{
		Method: "POST",
		URL:    p.Frame.BaseURL + "/api/v1/executions/EXECUTION_ID/request-approval",
		Body:   `{"title": "Pay claim #12345", "risk": "high", "payload": {"amount": 4200}, "expires_in_hours": 24}`,
	}.Curl()
}
