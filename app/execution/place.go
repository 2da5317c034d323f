package execution

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Hold is what keeps a queued execution from being claimed.
type Hold string

// What may hold an execution back; none of them: it waits for a free worker.
const (
	HeldByCap  Hold = "cap"
	HeldByRate Hold = "rate"
	HeldByKey  Hold = "key"
)

// Place is where a queued execution stands.
type Place struct {
	Ahead     int    // executions that are claimed before it as things are, at most CountLimit
	Hold      Hold   // empty: nothing but time
	Of        string // whose limit that is: a node, node.function, or a concurrency key
	Running   int    // of a cap or a key: executions at work
	Cap       int
	PerMinute int   // of a rate
	OpensAt   int64 // ms: when the rate lets the next one begin
}

// lanesCounted is how many callers are looked at to say how many are ahead.
const lanesCounted = 200

const (
	placeLimits = `SELECT q.max_concurrency, q.max_per_minute, q.open_at, coalesce(l.max_concurrency, 0), coalesce(l.max_per_minute, 0), coalesce(l.open_at, 0)
		FROM node_queues q LEFT JOIN function_queues l ON l.node_id = q.node_id AND l.function = $2 WHERE q.node_id = $1`
	placeOwn = `SELECT count(*) FROM (SELECT 1 FROM executions x WHERE ` + ready + ` AND x.node_id = $1 AND x.function = $2 AND x.rank = $3 AND x.asked_by = $4
		AND (x.available_at, x.id) < ($5, $6) LIMIT $7) c`
	functionsOf = `f(function) AS (SELECT (SELECT x.function FROM executions x WHERE ` + ready + ` AND x.node_id = $1 ORDER BY x.function LIMIT 1)
		UNION ALL SELECT (SELECT x.function FROM executions x WHERE ` + ready + ` AND x.node_id = $1 AND x.function > f.function ORDER BY x.function LIMIT 1)
			FROM f WHERE f.function IS NOT NULL)`
	placeUrgent = `WITH RECURSIVE ` + functionsOf + ` SELECT coalesce(sum((SELECT count(*) FROM (SELECT 1 FROM executions x WHERE ` + ready + `
		AND x.node_id = $1 AND x.function = f.function AND x.rank < $2 LIMIT $3) c)), 0) FROM f WHERE f.function IS NOT NULL`
	// Whoever takes turns with it is served as often as its own caller until it has its turn.
	placeOthers = `WITH RECURSIVE ` + functionsOf + `, a(function, asked_by) AS (
			SELECT f.function, (SELECT x.asked_by FROM executions x WHERE ` + ready + ` AND x.node_id = $1 AND x.function = f.function AND x.rank = $2
				ORDER BY x.asked_by LIMIT 1) FROM f WHERE f.function IS NOT NULL
			UNION ALL SELECT a.function, (SELECT x.asked_by FROM executions x WHERE ` + ready + ` AND x.node_id = $1 AND x.function = a.function AND x.rank = $2
				AND x.asked_by > a.asked_by ORDER BY x.asked_by LIMIT 1) FROM a WHERE a.asked_by IS NOT NULL)
		SELECT coalesce(sum((SELECT count(*) FROM (SELECT 1 FROM executions x WHERE ` + ready + ` AND x.node_id = $1 AND x.function = o.function AND x.rank = $2
			AND x.asked_by = o.asked_by LIMIT $5) c)), 0)
		FROM (SELECT function, asked_by FROM a WHERE asked_by IS NOT NULL AND (function <> $3 OR asked_by <> $4) LIMIT $6) o`
	placeBehind = `SELECT count(*) FROM (SELECT 1` + ofKey + ` AND parked = 2 AND (created_at, id) < ($3, $4) LIMIT $5) c`
)

// Place says what a queued execution waits for, and how many are before it. What an instant shows: turns change with whoever comes.
func (s *Service) Place(ctx context.Context, e *models.Execution) (Place, error) {
	var p Place
	var err error
	if e.Parked == models.BehindKey && e.ConcurrencyKey != nil {
		p, err = s.placeBehindKey(ctx, e)
	} else if p, err = s.hold(ctx, e); err == nil {
		p.Ahead, err = s.ahead(ctx, e)
	}
	if err != nil {
		return p, fmt.Errorf("find the place of %s in its queue: %w", e.ID, err)
	}
	p.Ahead = min(p.Ahead, CountLimit)
	return p, nil
}

func (s *Service) placeBehindKey(ctx context.Context, e *models.Execution) (Place, error) {
	p := Place{Hold: HeldByKey, Of: *e.ConcurrencyKey, Cap: *e.KeyLimit}
	if err := s.DB.QueryRow(ctx, holdKey, []any{e.NodeID, p.Of}, &p.Running); err != nil {
		return p, err
	}
	return p, s.DB.QueryRow(ctx, placeBehind, []any{e.NodeID, p.Of, e.CreatedAt, e.ID, CountLimit}, &p.Ahead)
}

// hold finds the limit that is reached, that of the function before that of the node.
func (s *Service) hold(ctx context.Context, e *models.Execution) (Place, error) {
	var whole, own limit
	err := s.DB.QueryRow(ctx, placeLimits, []any{e.NodeID, e.Function}, &whole.cap, &whole.rate, &whole.openAt, &own.cap, &own.rate, &own.openAt)
	if errors.Is(err, database.ErrNoRows) {
		return Place{}, nil
	}
	if err != nil {
		return Place{}, err
	}
	now := s.DB.Now().UnixMicro()
	for _, l := range []struct {
		limit
		of    string
		count string
		args  []any
	}{
		{own, e.Target(), runningOf("$1", "$2"), []any{e.NodeID, e.Function}}, {whole, e.NodeID, runningOf("$1", ""), []any{e.NodeID}},
	} {
		if l.cap > 0 {
			if err := s.DB.QueryRow(ctx, l.count, l.args, &l.running); err != nil {
				return Place{}, err
			}
		}
		switch {
		case l.cap > 0 && l.running >= l.cap:
			return Place{Hold: HeldByCap, Of: l.of, Running: l.running, Cap: l.cap}, nil
		case l.rate > 0 && l.openAt > now:
			return Place{Hold: HeldByRate, Of: l.of, PerMinute: l.rate, OpensAt: l.openAt / 1000}, nil
		}
	}
	return Place{}, nil
}

// ahead counts what is more urgent, what its own caller has before it, and the turns of the others.
func (s *Service) ahead(ctx context.Context, e *models.Execution) (int, error) {
	var urgent, own, others int
	if err := s.DB.QueryRow(ctx, placeUrgent, []any{e.NodeID, e.Rank, CountLimit}, &urgent); err != nil {
		return 0, err
	}
	err := s.DB.QueryRow(ctx, placeOwn, []any{e.NodeID, e.Function, e.Rank, e.AskedBy, e.AvailableAt, e.ID, CountLimit}, &own)
	if err != nil {
		return 0, err
	}
	err = s.DB.QueryRow(ctx, placeOthers, []any{e.NodeID, e.Rank, e.Function, e.AskedBy, min(own+1, CountLimit), lanesCounted}, &others)
	return urgent + own + others, err
}
