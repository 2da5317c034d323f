package approvals

import (
	"strings"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/values"
)

// group is a row of the queue with the ones like it folded below.
type group struct {
	first Row
	more  []Row
}

const foldFrom = 3 // so many like requests on a page are one line that opens

// groups folds the open requests of one shape together, each group at the place of its most urgent one.
func (p Page) groups() []group {
	if p.Filter.state() == StateDecided {
		return each(p.Rows)
	}
	alike := map[string]int{}
	for _, r := range p.Rows {
		if foldable(r) {
			alike[r.Approval.Shape]++
		}
	}
	var all []group
	at := map[string]int{}
	for _, r := range p.Rows {
		shape := r.Approval.Shape
		i, seen := at[shape]
		switch {
		case !foldable(r) || alike[shape] < foldFrom:
			all = append(all, group{first: r})
		case seen:
			all[i].more = append(all[i].more, r)
		default:
			at[shape] = len(all)
			all = append(all, group{first: r})
		}
	}
	return all
}

// foldable: high risk is never folded away.
func foldable(r Row) bool {
	return r.Approval.Shape != "" && r.Approval.Risk != "high" && r.Approval.Status == models.ApprovalPending
}

func each(rows []Row) []group {
	all := make([]group, len(rows))
	for i, r := range rows {
		all[i] = group{first: r}
	}
	return all
}

// open reports whether the item that is shown is one of those folded away.
func (g group) holds(item *Item) bool {
	for _, r := range g.more {
		if item != nil && r.Approval.ID == item.Approval.ID {
			return true
		}
	}
	return false
}

// together is the page on which a group is decided at once.
func (g group) together(f Filter) string {
	ids := []string{g.first.Approval.ID}
	for _, r := range g.more {
		ids = append(ids, r.Approval.ID)
	}
	return Together(ids[:min(len(ids), BulkLimit)], f)
}

// Together is the address of the page on which several requests are decided at once.
func Together(ids []string, f Filter) string {
	query := "ids=" + strings.Join(ids, ",")
	if filter := f.Query(); filter != "" {
		query += "&" + filter
	}
	return "/approvals/bulk?" + query
}

// columns are the fields in which the proposals of a bulk differ, and those that are the same in all of them.
func (b Bulk) columns() (differ, same []string, bodies []*values.Value) {
	seen := map[string]bool{}
	var names []string
	for _, item := range b.Items {
		v := values.Drawn(item.Payload)
		bodies = append(bodies, v)
		for _, name := range v.Names() {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		if constant(bodies, name) {
			same = append(same, name)
		} else {
			differ = append(differ, name)
		}
	}
	return differ, same, bodies
}

func constant(bodies []*values.Value, name string) bool {
	first := bodies[0].Get(name)
	for _, v := range bodies {
		if got := v.Get(name); got == nil || first == nil || !got.Equal(first) {
			return false
		}
	}
	return true
}
