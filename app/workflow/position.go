package workflow

import (
	"context"
	"sync"

	"github.com/agentfield/agentfield/models"
)

// mark is how far the event log went when a run was read.
type mark struct {
	newest int64 // id of the newest event
	// Transactions of PostgreSQL: all before oldest had ended, none from next on had begun. Zero on SQLite, where events become visible
	// in the order of their ids.
	oldest, next int64
}

const (
	newestEvent       = `, (SELECT coalesce(max(id), 0) FROM events)`
	selectMarkedRun   = `SELECT ` + runColumns + newestEvent + `, 0, 0` + whichRun
	selectMarkedRunPg = `SELECT ` + runColumns + newestEvent +
		`, pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint` + whichRun
)

// markedRun is Run with the end of the event log at that moment, in one statement.
func (s *Service) markedRun(ctx context.Context, id string) (run *models.Run, m mark, err error) {
	query := selectMarkedRun
	if s.DB.Postgres() {
		query = selectMarkedRunPg
	}
	run, err = s.run(ctx, query, id, &m.newest, &m.oldest, &m.next)
	return run, m, err
}

// position is up to where the event log is complete: whoever reads now sees every event up to there that there will ever be. On
// PostgreSQL numbers are drawn before the commit and become visible out of order, so the newest event seen counts only once all
// transactions of that moment have ended.
type position struct {
	mu      sync.Mutex
	settled int64
	next    mark
}

// advance takes a mark and returns the id up to which the log is complete for whoever reads after it.
func (p *position) advance(m mark) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.oldest >= p.next.next {
		p.settled = max(p.settled, p.next.newest)
		p.next = m
	}
	if m.oldest == m.next { // nobody was writing: as on SQLite
		p.settled = max(p.settled, m.newest)
	}
	return p.settled
}
