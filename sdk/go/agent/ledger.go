package agent

import (
	"sync"
	"time"
)

const (
	keepFor     = 10 * time.Minute
	keepBytes   = 32 << 20
	keepPerItem = 512 // what an outcome costs beside its own bytes
)

// ledger knows the runs of this process by execution id. Outcomes that the control plane has are kept for a while, since an answer that
// was sent may still be lost with the control plane; the oldest go first.
type ledger struct {
	mu    sync.Mutex
	runs  map[string]*run
	kept  []keptRun
	bytes int
}

type keptRun struct {
	run   *run
	since time.Time
}

// size is what the outcome and its bookkeeping occupy, in bytes.
func (k keptRun) size() int {
	return len(k.run.outcome.result) + len(k.run.outcome.details) + keepPerItem
}

// find joins the run of an execution, or starts one if there is none or the last one may be repeated.
func (l *ledger) find(e Execution, token string, start func(generation int) *run) (r *run, fresh bool) {
	if e.ID == "" {
		return start(0), true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known, generation := l.runs[e.ID], 0
	if known != nil {
		if !known.repeatable(e.Attempt) {
			known.join(e.Attempt, token)
			return known, false
		}
		generation = known.generation + 1
	}
	if l.runs == nil {
		l.runs = map[string]*run{}
	}
	r = start(generation)
	l.runs[e.ID] = r
	return r, true
}

func (l *ledger) get(id string) *run {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runs[id]
}

// keep starts the clock after which a run is forgotten, and forgets those that are due.
func (l *ledger) keep(r *run) {
	if r.ID == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	item := keptRun{r, now}
	l.kept = append(l.kept, item)
	l.bytes += item.size()
	due := 0
	for due < len(l.kept) && (l.bytes > keepBytes || now.Sub(l.kept[due].since) > keepFor) {
		old := l.kept[due]
		l.bytes -= old.size()
		if l.runs[old.run.ID] == old.run {
			delete(l.runs, old.run.ID)
		}
		l.kept[due] = keptRun{}
		due++
	}
	l.kept = l.kept[due:]
}
