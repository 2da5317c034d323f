package execution

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

// Claiming: running is the one status that is reached by looking for rows instead of naming them. A claim is one transaction: which nodes
// have room, which lanes of theirs have work, and the rows that are taken from those lanes. Each step hops over the index of the queue from
// one node, function, rank and caller to the next, so that it costs as much as it takes, whatever the length of the queue.

// ready is the condition of the index executions_queue, word for word.
const ready = "x.status = 'queued' AND x.parked = 0"

// A lane is the queue of one caller for one function at one rank: what is in it is taken in order.
type lane struct {
	node, function string
	rank           int
	askedBy        string
}

var (
	// The first and the last lane of a node are the same when it has only one: the ordinary case, in which that is all there is to know.
	waitingNodes = `r(n) AS (
			SELECT (SELECT x.node_id FROM executions x WHERE ` + ready + ` ORDER BY x.node_id LIMIT 1)
			UNION ALL SELECT (SELECT x.node_id FROM executions x WHERE ` + ready + ` AND x.node_id > r.n ORDER BY x.node_id LIMIT 1) FROM r WHERE r.n IS NOT NULL),
		w AS MATERIALIZED (SELECT q.node_id, q.last_claim_at, q.open_at,
			q.max_concurrency > 0 OR EXISTS (SELECT 1 FROM function_queues l WHERE l.node_id = q.node_id AND l.max_concurrency > 0) AS capped,
			q.max_per_minute > 0 OR EXISTS (SELECT 1 FROM function_queues l WHERE l.node_id = q.node_id AND l.max_per_minute > 0) AS paced,
			q.max_concurrency = 0 OR q.max_concurrency > (` + runningOf("q.node_id", "") + `) AS room
			FROM node_queues q JOIN r ON r.n = q.node_id)`
	oneLane = `CASE WHEN w.capped OR w.paced THEN '' ELSE ` + laneAt("ASC") + ` END, CASE WHEN w.capped OR w.paced THEN '' ELSE ` + laneAt("DESC") + ` END`

	// Nodes that can be served come first, the one served longest ago at their head: what may not run now must not fill the page.
	readyNodes = `WITH RECURSIVE ` + waitingNodes + `
		SELECT w.node_id, w.room AND w.open_at <= $1, w.capped, CASE WHEN w.room THEN w.open_at ELSE 0 END, ` + oneLane + ` FROM w
		ORDER BY w.room AND w.open_at <= $1 DESC, w.last_claim_at LIMIT 64`
	// On PostgreSQL the rows of the nodes are taken first, and those of other replicas passed over. What follows has a fresh snapshot, so
	// that its count of running rows includes what the previous holder has committed. One statement alone overshoots the cap.
	takeNodes = `WITH RECURSIVE due AS (UPDATE executions SET parked = 0 WHERE id = ANY(ARRAY(` + dueRows + ` FOR UPDATE SKIP LOCKED)) RETURNING 1), ` + waitingNodes + `,
		l AS MATERIALIZED (SELECT q.node_id FROM node_queues q WHERE q.node_id IN (SELECT node_id FROM w WHERE room AND open_at <= $1)
			ORDER BY q.last_claim_at LIMIT 32 FOR UPDATE OF q SKIP LOCKED)
		SELECT coalesce(w.node_id, ''), (SELECT count(*) FROM due) > 0, EXISTS (SELECT 1 FROM w WHERE capped),
			coalesce((SELECT min(open_at) FROM w WHERE room AND open_at > $1), 0), coalesce(` + strings.Replace(oneLane, "END, ", "END, ''), coalesce(", 1) + `, '')
		FROM (SELECT 1) one LEFT JOIN (l JOIN w ON w.node_id = l.node_id) ON TRUE ORDER BY w.last_claim_at`

	// What was put off and is due joins the queue.
	dueRows  = `SELECT id FROM executions WHERE status = 'queued' AND parked = 1 AND available_at <= $2 ORDER BY available_at LIMIT 1000`
	queueDue = `UPDATE executions SET parked = 0 WHERE id IN (SELECT id FROM executions WHERE status = 'queued' AND parked = 1 AND available_at <= $1
		ORDER BY available_at LIMIT 1000)`
)

// laneAt is the first lane of a node of w, or the last, in one text.
func laneAt(direction string) string {
	by := strings.NewReplacer(",", " "+direction+",").Replace("x.function, x.rank, x.asked_by") + " " + direction
	return `(SELECT x.function || '/' || x.rank || '/' || x.asked_by FROM executions x WHERE ` + ready + ` AND x.node_id = w.node_id ORDER BY ` + by + ` LIMIT 1)`
}

// runningOf counts the executions of a node, or of one of its functions, that take a place.
func runningOf(node, function string) string {
	count := `SELECT count(*) FROM executions x WHERE x.node_id = ` + node + ` AND x.status = 'running' AND ` + activeOf("x") + ` AND NOT x.local`
	if function != "" {
		count += ` AND x.function = ` + function
	}
	return count
}

// lanesOf lists, for each function of the nodes that has work and room, the lanes of its highest rank: at most $3 callers from the one
// whose turn it is, then at most as many from the beginning. A function that its rate keeps waiting is listed without a lane.
func lanesOf(postgres bool) string {
	nodes, turns, text := "SELECT value FROM json_each($1)", "SELECT value->>0, value->>1, value->>2 FROM json_each($2)", ""
	if postgres {
		nodes, turns = "SELECT unnest($1::text[])", "SELECT * FROM unnest($2::text[], $5::text[], $6::text[])"
		text = ` COLLATE "C"`
	}
	of := func(table, column, where string) string {
		return `(SELECT x.` + column + ` FROM executions x WHERE ` + ready + ` AND x.node_id = ` + table + `.node_id ` + where + ` ORDER BY x.` + column + ` LIMIT 1)`
	}
	caller := func(table, where string) string {
		return of(table, "asked_by", `AND x.function = `+table+`.function AND x.rank = `+table+`.rank `+where)
	}
	return `WITH RECURSIVE turns(node_id, function, asked_by) AS (` + turns + `),
		n AS MATERIALIZED (SELECT q.node_id, q.max_concurrency AS cap, q.max_per_minute AS rate, q.open_at,
			CASE WHEN q.max_concurrency > 0 THEN (` + runningOf("q.node_id", "") + `) ELSE 0 END AS running
			FROM node_queues q WHERE q.node_id IN (` + nodes + `)),
		f(node_id, function) AS (SELECT n.node_id, ` + of("n", "function", "") + ` FROM n
			UNION ALL SELECT f.node_id, ` + of("f", "function", "AND x.function > f.function") + ` FROM f WHERE f.function IS NOT NULL),
		g AS MATERIALIZED (SELECT f.node_id, f.function, coalesce(l.max_concurrency, 0) AS cap, coalesce(l.max_per_minute, 0) AS rate, coalesce(l.open_at, 0) AS open_at,
			CASE WHEN l.max_concurrency > 0 THEN (` + runningOf("f.node_id", "f.function") + `) ELSE 0 END AS running,
			` + of("f", "rank", "AND x.function = f.function") + ` AS rank,
			coalesce((SELECT t.asked_by FROM turns t WHERE t.node_id = f.node_id AND t.function = f.function), '')` + text + ` AS turn
			FROM f LEFT JOIN function_queues l ON l.node_id = f.node_id AND l.function = f.function WHERE f.function IS NOT NULL),
		o AS MATERIALIZED (SELECT * FROM g WHERE (cap = 0 OR running < cap) AND open_at <= $4),
		a(node_id, function, rank, turn, lap, step, asked_by) AS (
			SELECT o.node_id, o.function, o.rank, o.turn, 0, 1, ` + caller("o", "AND x.asked_by > o.turn") + ` FROM o
			UNION ALL SELECT a.node_id, a.function, a.rank, a.turn, 0, a.step + 1, ` + caller("a", "AND x.asked_by > a.asked_by") + ` FROM a WHERE a.asked_by IS NOT NULL AND a.step < $3),
		b(node_id, function, rank, turn, lap, step, asked_by) AS (
			SELECT o.node_id, o.function, o.rank, o.turn, 1, 1, ` + caller("o", "AND x.asked_by <= o.turn") + ` FROM o
			UNION ALL SELECT b.node_id, b.function, b.rank, b.turn, 1, b.step + 1, ` + caller("b", "AND x.asked_by > b.asked_by AND x.asked_by <= b.turn") + ` FROM b
			WHERE b.asked_by IS NOT NULL AND b.step < $3)
		SELECT g.node_id, n.cap, n.running, n.rate, n.open_at, g.function, g.cap, g.running, g.rate, g.open_at, g.rank, c.asked_by
		FROM g JOIN n ON n.node_id = g.node_id LEFT JOIN (SELECT * FROM a WHERE asked_by IS NOT NULL UNION ALL SELECT * FROM b WHERE asked_by IS NOT NULL) c
			ON c.node_id = g.node_id AND c.function = g.function
		ORDER BY g.node_id, g.function, c.lap, c.step`
}

const (
	takenBy   = `SET status = 'running', attempt = attempt + 1, lease_owner = $1, started_at = coalesce(started_at, $2), status_reason = NULL`
	claimLane = `UPDATE executions ` + takenBy + ` WHERE id IN (SELECT x.id FROM executions x WHERE ` + ready + ` AND x.node_id = $3 AND x.function = $4
			AND x.rank = $5 AND x.asked_by = $6 ORDER BY x.available_at, x.id LIMIT $7)
		RETURNING ` + executionColumns
	servedNode = `UPDATE node_queues SET last_claim_at = $1 WHERE node_id = $2`

	paceNode     = `UPDATE node_queues SET open_at = $1 WHERE node_id = $2`
	paceFunction = `UPDATE function_queues SET open_at = $1 WHERE node_id = $2 AND function = $3`
)

var claimLanes = `WITH g AS MATERIALIZED (SELECT * FROM unnest($4::text[], $5::text[], $6::smallint[], $7::text[], $8::int[]) v(node_id, function, rank, asked_by, places)),
		c AS MATERIALIZED (SELECT y.id FROM g CROSS JOIN LATERAL (SELECT x.id FROM executions x WHERE ` + ready + ` AND x.node_id = g.node_id AND x.function = g.function
			AND x.rank = g.rank AND x.asked_by = g.asked_by ORDER BY x.available_at, x.id LIMIT g.places FOR UPDATE SKIP LOCKED) y),
		f AS (UPDATE node_queues q SET last_claim_at = $3 WHERE q.node_id = ANY($9::text[]))
		UPDATE executions e SET status = 'running', attempt = e.attempt + 1, lease_owner = $1, started_at = coalesce(e.started_at, $2), status_reason = NULL
		WHERE e.id = ANY(ARRAY(SELECT id FROM c)) RETURNING ` + qualified(executionColumns, "e")

// claimRows moves up to n due executions to running under this replica's lease, never above a cap or a rate.
func (s *Service) claimRows(ctx context.Context, n int, owner string) ([]*models.Execution, error) {
	var found claim
	s.capped.Store(true) // until we know: what ends meanwhile must not be overlooked
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		found = claim{tx: tx, n: n, owner: owner, now: s.DB.Now(), turns: &s.turns}
		if err := found.make(ctx); err != nil {
			return err
		}
		events := make([]*models.Event, len(found.taken))
		for i, e := range found.taken {
			events[i] = started(e, found.now.UnixMilli())
		}
		return s.Events.Append(ctx, tx, events...)
	})
	if err != nil {
		return nil, fmt.Errorf("claim executions: %w", err)
	}
	s.turns.pass(found.places)
	s.capped.Store(found.capped)
	s.opensAt.Store(found.opensAt)
	return found.taken, nil
}

func started(e *models.Execution, now int64) *models.Event {
	return &models.Event{
		ExecutionID: &e.ID, RunID: &e.RunID, NodeID: e.NodeID, Kind: event.OfStatus(models.Running), Attempt: e.Attempt, At: now,
	}
}

// claim is one under way.
type claim struct {
	tx    *database.Tx
	n     int
	owner string
	now   time.Time
	turns *turns

	nodes   []string              // with room, the one served longest ago first
	queues  map[string]*nodeQueue // of those of which all is known
	capped  bool                  // work waits for a node or a function with a cap
	opensAt int64                 // us: when a rate lets something begin that waits for nothing else; 0: never
	places  []places
	taken   []*models.Execution
}

func (c *claim) make(ctx context.Context) error {
	if err := c.findNodes(ctx); err != nil || len(c.nodes) == 0 {
		return err
	}
	queues, err := c.readQueues(ctx)
	if err != nil {
		return err
	}
	c.places = c.turns.deal(queues, c.n, c.now.UnixMicro())
	if c.tx.Postgres() {
		err = c.takeAll(ctx)
	} else {
		err = c.takeEach(ctx)
	}
	if err != nil {
		return err
	}
	return c.pace(ctx, queues)
}

func (c *claim) opens(at int64) {
	if at > c.now.UnixMicro() && (c.opensAt == 0 || at < c.opensAt) {
		c.opensAt = at
	}
}

func (c *claim) findNodes(ctx context.Context) error {
	if c.tx.Postgres() {
		again, err := c.takeNodes(ctx)
		if again && err == nil && len(c.nodes) == 0 {
			_, err = c.takeNodes(ctx) // what was put off is in the queue since then
		}
		return err
	}
	if _, err := c.tx.Exec(ctx, queueDue, c.now.UnixMilli()); err != nil {
		return err
	}
	rows, err := c.tx.Query(ctx, readyNodes, c.now.UnixMicro())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var node string
		var open, capped bool
		var opensAt int64
		var first, last string
		if err := rows.Scan(&node, &open, &capped, &opensAt, &first, &last); err != nil {
			return err
		}
		c.capped = c.capped || capped
		c.opens(opensAt)
		if open {
			c.found(node, first, last)
		}
	}
	return rows.Err()
}

// takeNodes reports whether what was put off has joined the queue, which the same statement could not see yet.
func (c *claim) takeNodes(ctx context.Context) (again bool, err error) {
	rows, err := c.tx.Query(ctx, takeNodes, c.now.UnixMicro(), c.now.UnixMilli())
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		var node string
		var opensAt int64
		var first, last string
		if err := rows.Scan(&node, &again, &c.capped, &opensAt, &first, &last); err != nil {
			return false, err
		}
		c.opens(opensAt)
		if node != "" {
			c.found(node, first, last)
		}
	}
	return again, rows.Err()
}

// found takes note of a node. One without limits whose first lane is also its last need not be looked at again.
func (c *claim) found(node, first, last string) {
	c.nodes = append(c.nodes, node)
	parts := strings.SplitN(first, "/", 3)
	if first != last || len(parts) < 3 {
		return
	}
	rank, err := strconv.Atoi(parts[1])
	if err != nil {
		return
	}
	if c.queues == nil {
		c.queues = map[string]*nodeQueue{}
	}
	c.queues[node] = &nodeQueue{id: node, functions: []*functionQueue{{name: parts[0], rank: rank, callers: parts[2:]}}}
}

// readQueues returns the queues of the nodes, in the order of the nodes.
func (c *claim) readQueues(ctx context.Context) ([]*nodeQueue, error) {
	var unknown []string
	for _, node := range c.nodes {
		if c.queues[node] == nil {
			unknown = append(unknown, node)
		}
	}
	byID := map[string]*nodeQueue{}
	if len(unknown) > 0 {
		if err := c.readLanes(ctx, unknown, byID); err != nil {
			return nil, err
		}
	}
	queues := make([]*nodeQueue, 0, len(c.nodes))
	for _, node := range c.nodes {
		if q := cmp.Or(c.queues[node], byID[node]); q != nil {
			queues = append(queues, q)
		}
	}
	return queues, nil
}

func (c *claim) readLanes(ctx context.Context, of []string, byID map[string]*nodeQueue) error {
	args := []any{jsonList(of), c.turns.asJSON(of), c.n, c.now.UnixMicro()}
	if c.tx.Postgres() {
		nodes, functions, callers := c.turns.asLists(of)
		args = []any{of, nodes, c.n, c.now.UnixMicro(), functions, callers}
	}
	rows, err := c.tx.Query(ctx, lanesOf(c.tx.Postgres()), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var node, function string
		var whole, own limit
		var rank int
		var askedBy *string
		if err := rows.Scan(&node, &whole.cap, &whole.running, &whole.rate, &whole.openAt, &function, &own.cap, &own.running, &own.rate, &own.openAt,
			&rank, &askedBy); err != nil {
			return err
		}
		q := byID[node]
		if q == nil {
			q = &nodeQueue{id: node, limit: whole}
			byID[node] = q
		}
		q.add(function, own, rank, askedBy)
		c.capped = c.capped || own.cap > 0
		c.opens(own.openAt)
	}
	return rows.Err()
}

func (c *claim) takeEach(ctx context.Context) error {
	for _, p := range c.places {
		rows, err := c.tx.Query(ctx, claimLane, c.owner, c.now.UnixMilli(), p.node, p.function, p.rank, p.askedBy, p.n)
		if err != nil {
			return err
		}
		if c.taken, err = collect(rows, c.taken); err != nil {
			return err
		}
	}
	for _, node := range c.served() {
		if _, err := c.tx.Exec(ctx, servedNode, c.now.UnixMicro(), node); err != nil {
			return err
		}
	}
	return nil
}

// served are the nodes that had their turn: those that something is taken from, and those of which nothing may be.
func (c *claim) served() []string {
	if len(c.places) == 0 {
		return c.nodes
	}
	var nodes []string
	for _, p := range c.places {
		if len(nodes) == 0 || nodes[len(nodes)-1] != p.node {
			nodes = append(nodes, p.node)
		}
	}
	return nodes
}

// takeAll is takeEach in one statement, for PostgreSQL.
func (c *claim) takeAll(ctx context.Context) error {
	n := len(c.places)
	nodes, functions, callers := make([]string, n), make([]string, n), make([]string, n)
	ranks, counts := make([]int16, n), make([]int32, n)
	for i, p := range c.places {
		nodes[i], functions[i], callers[i], ranks[i], counts[i] = p.node, p.function, p.askedBy, int16(p.rank), int32(p.n) //nolint:gosec // small
	}
	rows, err := c.tx.Query(ctx, claimLanes, c.owner, c.now.UnixMilli(), c.now.UnixMicro(), nodes, functions, ranks, callers, counts, c.served())
	if err != nil {
		return err
	}
	c.taken, err = collect(rows, nil)
	return err
}

// pace notes for those that have a rate when it lets the next one begin.
func (c *claim) pace(ctx context.Context, queues []*nodeQueue) error {
	now := c.now.UnixMicro()
	begun := func(node, function string) (n int) {
		for _, e := range c.taken {
			if e.NodeID == node && (function == "" || e.Function == function) {
				n++
			}
		}
		return n
	}
	for _, q := range queues {
		if n := begun(q.id, ""); q.rate > 0 && n > 0 {
			at := q.after(n, now)
			c.opens(at)
			if _, err := c.tx.Exec(ctx, paceNode, at, q.id); err != nil {
				return err
			}
		}
		for _, f := range q.functions {
			n := begun(q.id, f.name)
			if f.rate == 0 || n == 0 {
				continue
			}
			at := f.after(n, now)
			c.opens(at)
			if _, err := c.tx.Exec(ctx, paceFunction, at, q.id, f.name); err != nil {
				return err
			}
		}
	}
	return nil
}

func collect(rows database.Rows, into []*models.Execution) ([]*models.Execution, error) {
	defer rows.Close()
	for rows.Next() {
		e, err := scanExecution(rows)
		if err != nil {
			return nil, err
		}
		into = append(into, e)
	}
	return into, rows.Err()
}
