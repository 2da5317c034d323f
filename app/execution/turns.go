package execution

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Fairness. The places of a node are dealt out in this order: the highest priority alone; of it, the functions in turn; of a function, its
// callers in turn; of a caller, in the order of submission. So nobody waits for the length of anybody else's queue, only for the number of
// those who wait. Whose turn it is, is remembered by each replica for itself: forgetting it costs somebody one turn.

// turns remembers who was served last. Only the claiming loop uses it.
type turns struct {
	functions map[string]string            // by node
	callers   map[string]map[string]string // by node and function
}

// limit bounds a node or a function; zero of cap and rate: no bound.
type limit struct {
	cap, running int
	rate         int   // begun per minute
	openAt       int64 // us: when the rate lets the next one begin
}

// nodeQueue is what waits for a node, as far as one claim looks.
type nodeQueue struct {
	limit
	id        string
	functions []*functionQueue
}

// functionQueue is what waits for a function at its highest rank.
type functionQueue struct {
	limit
	name    string
	rank    int
	callers []string // the one whose turn it is first
}

// places says how many executions of a lane are taken.
type places struct {
	lane
	n int
}

func (q *nodeQueue) add(function string, own limit, rank int, askedBy *string) {
	if len(q.functions) == 0 || q.functions[len(q.functions)-1].name != function {
		q.functions = append(q.functions, &functionQueue{limit: own, name: function, rank: rank})
	}
	if f := q.functions[len(q.functions)-1]; askedBy != nil {
		f.callers = append(f.callers, *askedBy)
	}
}

// room is how many more may begin now, at most n.
func (l limit) room(n int, now int64) int {
	if l.cap > 0 {
		n = min(n, l.cap-l.running)
	}
	if l.rate > 0 {
		n = min(n, int((now+l.burst()-l.reckoned(now))/l.pace()))
	}
	return max(n, 0)
}

// The rate is kept as by a clock that each beginning moves on by one pace, and that may run ahead of time by a second's worth, or by one
// when less than one a second may begin.

func (l limit) pace() int64 { return time.Minute.Microseconds() / int64(l.rate) }

func (l limit) burst() int64 { return max(l.pace(), time.Second.Microseconds()) }

func (l limit) reckoned(now int64) int64 { return max(l.openAt-l.pace()+l.burst(), now) }

// after is when the next may begin once n have.
func (l limit) after(n int, now int64) int64 {
	return l.reckoned(now) + int64(n+1)*l.pace() - l.burst()
}

// deal gives n places to the lanes of the queues: to each node its share, as long as there are any.
func (t *turns) deal(queues []*nodeQueue, n int, now int64) []places {
	var all []places
	share := max(8, n/max(len(queues), 1))
	for _, q := range queues {
		dealt := t.dealNode(q, q.room(min(share, n), now), now)
		for _, p := range dealt {
			n -= p.n
		}
		all = append(all, dealt...)
	}
	return all
}

// dealNode gives every caller one place, one after the other, and then the rest to all alike: a lane that is shorter leaves places for the
// next claim, which follows at once.
func (t *turns) dealNode(q *nodeQueue, n int, now int64) []places {
	open := t.inTurn(q)
	rooms := make([]int, len(open))
	lanes := 0
	for i, f := range open {
		rooms[i] = f.room(n, now)
		lanes = max(lanes, len(f.callers))
	}
	var dealt []places
	of := []int{} // the function of each
	for turn := range lanes {
		for i, f := range open {
			if n == 0 || rooms[i] == 0 || turn >= len(f.callers) {
				continue
			}
			dealt = append(dealt, places{lane{q.id, f.name, f.rank, f.callers[turn]}, 1})
			of = append(of, i)
			rooms[i]--
			n--
		}
	}
	for more := len(dealt) > 0; n > 0 && more; {
		each := max(1, n/len(dealt))
		more = false
		for i := range dealt {
			extra := min(each, n, rooms[of[i]])
			dealt[i].n += extra
			rooms[of[i]] -= extra
			n -= extra
			more = more || extra > 0
		}
	}
	return dealt
}

// inTurn are the functions that have work of the highest rank, the one whose turn it is first.
func (t *turns) inTurn(q *nodeQueue) []*functionQueue {
	var open []*functionQueue
	for _, f := range q.functions {
		switch {
		case len(f.callers) == 0:
		case len(open) == 0 || f.rank < open[0].rank:
			open = []*functionQueue{f}
		case f.rank == open[0].rank:
			open = append(open, f)
		}
	}
	last := t.functions[q.id]
	after := slices.IndexFunc(open, func(f *functionQueue) bool { return strings.Compare(f.name, last) > 0 })
	if after <= 0 {
		return open
	}
	return append(slices.Clone(open[after:]), open[:after]...)
}

// pass notes who was served.
func (t *turns) pass(served []places) {
	if t.functions == nil {
		t.functions, t.callers = map[string]string{}, map[string]map[string]string{}
	}
	for _, p := range served {
		t.functions[p.node] = p.function
		if t.callers[p.node] == nil {
			t.callers[p.node] = map[string]string{}
		}
		t.callers[p.node][p.function] = p.askedBy
	}
}

func (t *turns) asLists(nodes []string) (of, functions, callers []string) {
	for _, node := range nodes {
		for function, caller := range t.callers[node] {
			of, functions, callers = append(of, node), append(functions, function), append(callers, caller)
		}
	}
	return of, functions, callers
}

func (t *turns) asJSON(nodes []string) string {
	of, functions, callers := t.asLists(nodes)
	all := make([][3]string, len(of))
	for i := range of {
		all[i] = [3]string{of[i], functions[i], callers[i]}
	}
	text, err := json.Marshal(all)
	if err != nil { // strings always can be written
		return "[]"
	}
	return string(text)
}
