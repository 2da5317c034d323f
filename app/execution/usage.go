package execution

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/agentfield/agentfield/models"
)

// UsageLimit bounds how many executions of a node are looked at for the usage of one of its functions, the newest first.
const UsageLimit = 2000

const relatives = 200 // executions whose callers and calls are counted

// Usage is how a function has done lately.
type Usage struct {
	Of        int  // executions looked at
	Cut       bool // there were more in that time than are looked at
	Succeeded int
	Failed    int // failed or timed out
	Cancelled int
	Open      int       // not ended
	P50, P95  int64     // ms from its start to its success; 0: none succeeded
	Recent    []string  // ids, the newest first
	Groups    []Failing // the most frequent failures
	Callers   []Peer    // what called the newest of them
	Calls     []Peer    // what the newest of them called
}

// Failing is a group of failures of one function.
type Failing struct {
	Group  string
	Count  int
	Newest string // the id of the newest
}

// Peer is a function at the other end of calls.
type Peer struct {
	NodeID, Function string
	Count            int
}

const shownRecent, shownFailing = 8, 4

// UsageOf looks at the executions of a function since an instant (ms).
func (s *Service) UsageOf(ctx context.Context, node, function string, since int64) (Usage, error) {
	var u Usage
	rows, err := s.DB.Query(ctx, `SELECT function, id, status, created_at, started_at, finished_at, error_group FROM executions
		WHERE node_id = $1 AND created_at >= $2 ORDER BY created_at DESC, id DESC LIMIT $3`, node, since, UsageLimit)
	if err != nil {
		return u, fmt.Errorf("read the usage of %s.%s: %w", node, function, err)
	}
	defer rows.Close()
	var took []int64
	var newest []string
	groups := map[string]*Failing{}
	seen := 0
	for rows.Next() {
		var e models.Execution
		if err := rows.Scan(&e.Function, &e.ID, &e.Status, &e.CreatedAt, &e.StartedAt, &e.FinishedAt, &e.ErrorGroup); err != nil {
			return u, fmt.Errorf("read the usage of %s.%s: %w", node, function, err)
		}
		seen++
		if e.Function != function {
			continue
		}
		u.count(&e, groups)
		if e.Status == models.Succeeded {
			took = append(took, *e.FinishedAt-begun(&e))
		}
		if len(newest) < relatives {
			newest = append(newest, e.ID)
		}
	}
	if err := rows.Err(); err != nil {
		return u, fmt.Errorf("read the usage of %s.%s: %w", node, function, err)
	}
	u.Cut = seen >= UsageLimit
	u.Recent = newest[:min(len(newest), shownRecent)]
	u.Groups = mostFrequent(groups)
	if len(took) > 0 {
		slices.Sort(took)
		u.P50, u.P95 = took[len(took)/2], took[len(took)*95/100]
	}
	if u.Callers, err = s.peers(ctx, "SELECT p.node_id, p.function FROM executions e JOIN executions p ON p.id = e.parent_id WHERE e.id IN (%s)", newest); err != nil {
		return u, err
	}
	u.Calls, err = s.peers(ctx, fmt.Sprintf("SELECT c.node_id, c.function FROM executions c WHERE c.parent_id IN (%%s) LIMIT %d", UsageLimit), newest)
	return u, err
}

func begun(e *models.Execution) int64 {
	if e.StartedAt != nil {
		return *e.StartedAt
	}
	return e.CreatedAt
}

func (u *Usage) count(e *models.Execution, groups map[string]*Failing) {
	u.Of++
	switch e.Status {
	case models.Succeeded:
		u.Succeeded++
	case models.Failed, models.Timeout:
		u.Failed++
		if e.ErrorGroup == nil {
			return
		}
		if groups[*e.ErrorGroup] == nil {
			groups[*e.ErrorGroup] = &Failing{Group: *e.ErrorGroup, Newest: e.ID}
		}
		groups[*e.ErrorGroup].Count++
	case models.Cancelled:
		u.Cancelled++
	case models.Pending, models.Queued, models.Running, models.Waiting, models.Paused:
		u.Open++
	}
}

func mostFrequent(groups map[string]*Failing) []Failing {
	all := make([]Failing, 0, len(groups))
	for _, g := range groups {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b Failing) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(b.Newest, a.Newest)
	})
	return all[:min(len(all), shownFailing)]
}

// peers counts the functions that a query over ids finds, the most frequent first.
func (s *Service) peers(ctx context.Context, query string, ids []string) ([]Peer, error) {
	rows, err := s.queryIDs(ctx, "SELECT node_id, function, count(*) AS n FROM ("+query+") x GROUP BY node_id, function ORDER BY n DESC, node_id, function LIMIT 12", ids)
	if err != nil {
		return nil, fmt.Errorf("count callers and calls: %w", err)
	}
	defer rows.Close()
	var all []Peer
	for rows.Next() {
		var p Peer
		if err := rows.Scan(&p.NodeID, &p.Function, &p.Count); err != nil {
			return nil, fmt.Errorf("count callers and calls: %w", err)
		}
		all = append(all, p)
	}
	return all, rows.Err()
}
