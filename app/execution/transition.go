package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

// This file and claim.go are the only ones that change rows of executions. Each change of status is a compare-and-set that writes, in the same
// transaction, the event, the payload, the webhook and the notice that belong to it. Zero rows changed is an answer.

// move asks for one transition. What guards it: the status must be one of from and, where given, attempt and owner must still be these.
type move struct {
	id      string
	from    []models.Status
	to      models.Status
	attempt int    // 0: any
	owner   string // empty: any

	reason   string
	failure  *failure // why, when to is failed or timeout, or when another attempt follows
	after    time.Duration
	instance *string // the instance that has, or had, the call
	// Counters: attempts given back, failed attempts, attempts lost with a replica.
	giveBack, failures, redeliveries int

	result  *body
	details *body
	kind    string         // of the event, when it is not that of the status
	data    map[string]any // of the event
	notify  bool           // tell the agent that it was cancelled
	resumed bool           // the row waits for a redelivery, and its earlier attempt ends it: two moves in one

	known *models.Execution // the row as it must be for the guards to hold, if the mover has it: saves reading it back
	row   *models.Execution // as it is after the move; nil when nothing was changed
}

// failure is why an attempt ended without a result.
type failure struct {
	code     string // agent_timeout, agent_unreachable, …
	category string // agent_error, bad_response, agent_timeout, agent_unreachable, internal_error
	message  string
	class    string // of RetryPolicy.On
	status   int    // HTTP status of the agent, when it answered
}

// updateOne moves one row. The guards are written so that one text serves every move: $2 is ",running,waiting,". A lease ends with each
// move, but who has the call open while a person decides or an operator holds it back gets it back afterwards: if they are gone by then, it is taken from them as any
// other, and the call is made again.
const updateOne = updateGuarded + ` RETURNING ` + executionColumns

const updateGuarded = `UPDATE executions SET status = $3, status_reason = $4, error_code = $5, error_category = $6, error_message = $7,
	error_status = $8, available_at = $9, finished_at = $10, attempt = attempt - $11, failures = failures + $12,
	redeliveries = redeliveries + $13, instance_id = coalesce($14, instance_id), lease_owner = CASE WHEN $3 = 'running' THEN held_by END,
	held_by = CASE WHEN $3 IN ('waiting', 'paused') THEN lease_owner END, result_bytes = result_bytes + $15, error_group = $18,
	paused_in = CASE WHEN $3 = 'paused' THEN status END, parked = CASE WHEN parked = 2 THEN 2 ELSE $19 END
	WHERE id = $1 AND instr($2, ',' || status || ',') > 0 AND ($16 = 0 OR attempt = $16) AND ($17 = '' OR lease_owner = $17)`

// updateMany is updateOne for a whole batch of PostgreSQL.
var updateMany = `UPDATE executions e SET status = v.status, status_reason = v.reason, error_code = v.code, error_category = v.category,
	error_message = v.message, error_status = v.http, available_at = v.available, finished_at = v.finished, attempt = e.attempt - v.give_back,
	failures = e.failures + v.failures, redeliveries = e.redeliveries + v.redeliveries, instance_id = coalesce(v.instance, e.instance_id),
	lease_owner = CASE WHEN v.status = 'running' THEN e.held_by END, held_by = CASE WHEN v.status IN ('waiting', 'paused') THEN e.lease_owner END,
	paused_in = CASE WHEN v.status = 'paused' THEN e.status END,
	result_bytes = e.result_bytes + v.bytes, error_group = v.error_group, parked = CASE WHEN e.parked = 2 THEN 2 ELSE v.parked END
	FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[], $9::bigint[], $10::bigint[],
		$11::int[], $12::int[], $13::int[], $14::text[], $15::bigint[], $16::int[], $17::text[], $18::text[], $19::smallint[])
		AS v(id, was, status, reason, code, category, message, http, available, finished, give_back, failures, redeliveries, instance, bytes, attempt, owner, error_group,
			parked)
	WHERE e.id = v.id AND strpos(v.was, ',' || e.status || ',') > 0 AND (v.attempt = 0 OR e.attempt = v.attempt)
		AND (v.owner = '' OR e.lease_owner = v.owner)
	RETURNING ` + qualified(executionColumns, "e")

// moveAll makes the moves of one batch; it is the apply function of the group.
func (s *Service) moveAll(ctx context.Context, tx *database.Tx, moves []*move) error {
	moves, later := distinct(moves)
	now := s.DB.NowMs()
	var err error
	if tx.Postgres() {
		err = moveBatch(ctx, tx, moves, now)
	} else {
		err = moveEach(ctx, tx, moves, now)
	}
	if err != nil {
		return fmt.Errorf("move executions: %w", err)
	}
	if err := s.restDeadlines(ctx, tx, moves, now); err != nil {
		return err
	}
	if err := s.record(ctx, tx, moves, now); err != nil {
		return err
	}
	if len(later) > 0 {
		return s.moveAll(ctx, tx, later)
	}
	return nil
}

// distinct sets aside moves of an execution that an earlier move of the batch is about: one after the other, each with its own guard.
func distinct(moves []*move) (first, later []*move) {
	seen := make(map[string]struct{}, len(moves))
	for _, m := range moves {
		if _, twice := seen[m.id]; twice {
			later = append(later, m)
			continue
		}
		seen[m.id] = struct{}{}
		first = append(first, m)
	}
	return first, later
}

var errIllegalMove = errors.New("this transition is not in the table of models/status.go")

func (m *move) args(now int64) ([]any, error) {
	for _, from := range m.from {
		if !from.CanBecome(m.to) && !(m.resumed && from.CanBecome(models.Running) && models.Running.CanBecome(m.to)) {
			return nil, fmt.Errorf("%s to %s: %w", from, m.to, errIllegalMove)
		}
	}
	m.row = nil
	var finished *int64
	if m.to.Terminal() {
		finished = &now
	}
	var code, category, message, group *string
	var status *int
	if m.failure != nil && m.to.Terminal() {
		code, category, message = optional(m.failure.code), optional(m.failure.category), optional(m.failure.message)
		group = optional(fingerprint(m.failure.code, m.failure.message))
		if m.failure.status > 0 {
			status = &m.failure.status
		}
	}
	var size int64
	if m.result != nil {
		size = int64(len(m.result.raw))
	}
	return []any{
		m.id, joined(m.from), string(m.to), optional(m.reason), code, category, message, status, now + m.after.Milliseconds(), finished,
		m.giveBack, m.failures, m.redeliveries, m.instance, size, m.attempt, m.owner, group, int16(m.parked()),
	}, nil
}

// parked keeps what is put off out of the way of those who claim. What waits behind its key goes on doing so, whatever its status.
func (m *move) parked() models.Parked {
	if m.to == models.Queued && m.after > 0 {
		return models.PutOff
	}
	return models.NotParked
}

func joined(statuses []models.Status) string {
	var b strings.Builder
	b.WriteByte(',')
	for _, s := range statuses {
		b.WriteString(string(s))
		b.WriteByte(',')
	}
	return b.String()
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func moveEach(ctx context.Context, tx *database.Tx, moves []*move, now int64) error {
	for _, m := range moves {
		args, err := m.args(now)
		if err != nil {
			return err
		}
		if m.known != nil {
			n, err := tx.Exec(ctx, updateGuarded, args...)
			if err != nil {
				return err
			}
			if n == 1 {
				m.row = m.applied(now)
			}
			continue
		}
		rows, err := tx.Query(ctx, updateOne, args...)
		if err != nil {
			return err
		}
		if rows.Next() {
			m.row, err = scanExecution(rows)
		}
		rows.Close()
		if err = errors.Join(err, rows.Err()); err != nil {
			return err
		}
	}
	return nil
}

// applied is the known row with the move made, field by field what updateGuarded writes.
func (m *move) applied(now int64) *models.Execution {
	row := *m.known
	row.Status, row.StatusReason, row.LeaseOwner, row.HeldBy, row.PausedIn = m.to, optional(m.reason), nil, nil, nil
	row.AvailableAt = now + m.after.Milliseconds()
	if row.Parked != models.BehindKey {
		row.Parked = m.parked()
	}
	row.Attempt -= m.giveBack
	row.Failures += m.failures
	row.Redeliveries += m.redeliveries
	if m.instance != nil {
		row.InstanceID = m.instance
	}
	if m.result != nil {
		row.ResultBytes += int64(len(m.result.raw))
	}
	row.FinishedAt, row.ErrorCode, row.ErrorCategory, row.ErrorMessage, row.ErrorStatus, row.ErrorGroup = nil, nil, nil, nil, nil, nil
	if m.to.Terminal() {
		row.FinishedAt = &now
		if f := m.failure; f != nil {
			row.ErrorCode, row.ErrorCategory, row.ErrorMessage = optional(f.code), optional(f.category), optional(f.message)
			row.ErrorGroup = optional(fingerprint(f.code, f.message))
			if f.status > 0 {
				row.ErrorStatus = &f.status
			}
		}
	}
	return &row
}

func moveBatch(ctx context.Context, tx *database.Tx, moves []*move, now int64) error {
	n := len(moves)
	text := func() []*string { return make([]*string, n) }
	ids, was, status, owners := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	reasons, codes, categories, messages, instances, groups := text(), text(), text(), text(), text(), text()
	https, giveBack, failures, redeliveries, attempts := make([]*int, n), make([]int, n), make([]int, n), make([]int, n), make([]int, n)
	available, finished, sizes, parked := make([]int64, n), make([]*int64, n), make([]int64, n), make([]int16, n)
	byID := make(map[string]*move, n)
	for i, m := range moves {
		a, err := m.args(now)
		if err != nil {
			return err
		}
		byID[m.id] = m
		ids[i], was[i], status[i] = m.id, a[1].(string), a[2].(string)
		reasons[i], codes[i], categories[i], messages[i] = a[3].(*string), a[4].(*string), a[5].(*string), a[6].(*string)
		https[i], available[i], finished[i] = a[7].(*int), a[8].(int64), a[9].(*int64)
		giveBack[i], failures[i], redeliveries[i] = m.giveBack, m.failures, m.redeliveries
		instances[i], sizes[i], attempts[i], owners[i], groups[i] = m.instance, a[14].(int64), m.attempt, m.owner, a[17].(*string)
		parked[i] = a[18].(int16)
	}
	rows, err := tx.Query(ctx, updateMany, ids, was, status, reasons, codes, categories, messages, https, available, finished,
		giveBack, failures, redeliveries, instances, sizes, attempts, owners, groups, parked)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scanExecution(rows)
		if err != nil {
			return err
		}
		byID[e.ID].row = e
	}
	return rows.Err()
}

const (
	insertDelivery = `INSERT INTO webhook_deliveries (id, execution_id, event, url, status, available_at, attempt, max_attempts, created_at)
		SELECT $1, execution_id, $2, url, 'queued', $3, 0, $4, $3 FROM webhook_registrations WHERE execution_id = $5
		ON CONFLICT (execution_id, event, url, endpoint_id, subject) DO NOTHING`
	upsertPayload = `INSERT INTO execution_payloads (execution_id, kind, encoding, body) VALUES ($1, $2, $3, $4)
		ON CONFLICT (execution_id, kind) DO UPDATE SET encoding = excluded.encoding, body = excluded.body`
	upsertPayloads = `INSERT INTO execution_payloads (execution_id, kind, encoding, body)
		SELECT * FROM unnest($1::text[], $2::smallint[], $3::smallint[], $4::bytea[])
		ON CONFLICT (execution_id, kind) DO UPDATE SET encoding = excluded.encoding, body = excluded.body`
	insertNotice = `INSERT INTO notices (id, execution_id, kind, node_id, instance_id, body, status, available_at, attempt, max_attempts, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, 'queued', $7, 0, $8, $7)`
)

// record writes what belongs to the moves that were made.
func (s *Service) record(ctx context.Context, tx *database.Tx, moves []*move, now int64) error {
	var events []*models.Event
	var payloads []storedPayload
	var told []*models.Execution
	var ended keys
	runs := tallies{}
	for _, m := range moves {
		if m.row == nil {
			continue
		}
		runs.moved(m, now)
		if m.resumed {
			events = append(events, started(m.row, now))
		}
		events = append(events, m.event(now))
		if m.result != nil {
			payloads = append(payloads, storedPayload{m.id, models.PayloadResult, m.result})
		}
		if m.details != nil {
			payloads = append(payloads, storedPayload{m.id, models.PayloadErrorDetails, m.details})
		}
		if m.to.Terminal() && m.row.HasWebhook {
			if _, err := tx.Exec(ctx, insertDelivery, newID("wh_"), webhookEvent(m.to), now, s.WebhookAttempts, m.id); err != nil {
				return fmt.Errorf("queue the webhook: %w", err)
			}
			if s.Delivered != nil {
				tx.AfterCommit(s.Delivered)
			}
		}
		if (m.to.Terminal() || m.to == models.Waiting) && !m.row.Local {
			told = append(told, m.row)
		}
		if m.to.Terminal() {
			ended.add(m.row)
		}
		if m.notify {
			if err := s.leaveNotice(ctx, tx, m, now); err != nil {
				return err
			}
		}
		row, raw := m.row, []byte(nil)
		if m.result != nil {
			raw = m.result.raw
		}
		tx.AfterCommit(func() { s.moved(row, raw) })
	}
	if err := storePayloads(ctx, tx, payloads); err != nil {
		return err
	}
	if err := runs.write(ctx, tx); err != nil {
		return err
	}
	if len(told) > 0 && s.Announce != nil {
		if err := s.Announce(ctx, tx, told, now); err != nil {
			return err
		}
	}
	if err := ended.letNext(ctx, tx); err != nil {
		return err
	}
	return s.Events.Append(ctx, tx, events...)
}

// webhookEvent: everything but success is announced as a failure, with its own status (ruling C5).
func webhookEvent(s models.Status) string {
	if s == models.Succeeded {
		return "execution.completed"
	}
	return "execution.failed"
}

func (m *move) event(now int64) *models.Event {
	kind := m.kind
	if kind == "" {
		kind = event.OfStatus(m.to)
	}
	data := m.data
	if data == nil {
		data = map[string]any{}
	}
	if m.reason != "" {
		data["reason"] = m.reason
	}
	if m.failure != nil {
		data["code"] = m.failure.code
		data["error"] = cut(m.failure.message, 1024)
	}
	attempt := m.row.Attempt + m.giveBack
	return &models.Event{
		ExecutionID: &m.row.ID, RunID: &m.row.RunID, NodeID: m.row.NodeID, Kind: kind, Attempt: attempt, At: now, Data: asJSON(data),
	}
}

func asJSON(data map[string]any) *string {
	if len(data) == 0 {
		return nil
	}
	text, err := json.Marshal(data)
	if err != nil {
		return nil
	}
	s := string(text)
	return &s
}

// cut shortens a text to at most n bytes without breaking a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

// transition makes one move and reports whether it was ours to make.
func (s *Service) transition(ctx context.Context, m *move) (bool, error) {
	if err := s.moves.Do(ctx, m); err != nil {
		return false, err
	}
	return m.row != nil, nil
}

// endOf is why a call is broken off when its execution has ended.
func endOf(status models.Status) error {
	if status == models.Timeout {
		return errTimedOut
	}
	return errEnded
}

// moved runs after the commit of a move.
func (s *Service) moved(row *models.Execution, result []byte) {
	s.counters.count(row)
	if row.Status.Terminal() || row.Status == models.Waiting {
		s.waiters.settled(row, result)
	}
	if row.Status == models.Waiting || row.Status == models.Paused {
		s.inFlight.free(row.ID)
	}
	if row.Status.Terminal() {
		s.inFlight.stop(row.ID, endOf(row.Status))
		if s.Ended != nil {
			s.Ended(row)
		}
	}
	if row.Status == models.Queued || s.capped.Load() || row.ConcurrencyKey != nil { // there is work, or perhaps room for some that waits
		s.worker.Wake()
		if s.Draining() {
			s.waiters.changed(row.ID) // put back: its caller may go and come back for it
		}
	}
}

// Time with a person is not charged, neither to the execution that waits or is paused nor to those above it that wait for it: their
// deadlines rest while anything at or below them does, and go on with what was left.

const (
	hold = ` UPDATE executions SET holds = holds + 1,
		deadline_left_ms = CASE WHEN holds = 0 THEN deadline_at - $2 ELSE deadline_left_ms END,
		deadline_at = CASE WHEN holds = 0 THEN NULL ELSE deadline_at END,
		waiting_since = CASE WHEN id = $1 AND status = 'waiting' THEN $2 ELSE waiting_since END
		WHERE id IN (SELECT id FROM chain) AND finished_at IS NULL`
	unhold = ` UPDATE executions SET holds = holds - 1,
		deadline_at = CASE WHEN holds = 1 AND deadline_left_ms IS NOT NULL THEN $2 + deadline_left_ms ELSE deadline_at END,
		deadline_left_ms = CASE WHEN holds = 1 THEN NULL ELSE deadline_left_ms END,
		waiting_since = CASE WHEN id = $1 THEN NULL ELSE waiting_since END
		WHERE id IN (SELECT id FROM chain) AND holds > 0`
)

// chainAbove are the execution $1 and those that called it. UNION ends where forged parents go round in a circle.
func chainAbove(postgres bool) string {
	first := "CAST($1 AS TEXT)"
	if postgres {
		first += ` COLLATE "C"` // as the column: PostgreSQL wants both parts of a recursion to sort alike
	}
	return `WITH RECURSIVE chain(id) AS (SELECT ` + first + `
		UNION SELECT e.parent_id FROM executions e JOIN chain ON e.id = chain.id WHERE e.parent_id IS NOT NULL)`
}

// lockChains takes the rows above executions, the newest first, which is the children before those that called them: whoever changes one
// has its own already. In another order siblings that ask at the same moment would wait for each other in a circle.
const lockChains = `WITH RECURSIVE chain(id) AS (SELECT unnest($1::text[]) COLLATE "C"
	UNION SELECT e.parent_id FROM executions e JOIN chain ON e.id = chain.id WHERE e.parent_id IS NOT NULL)
	SELECT id FROM executions WHERE id IN (SELECT id FROM chain) ORDER BY created_at DESC, id DESC FOR UPDATE`

// rests is how a move that was made changes the deadlines above it: a statement, or none.
func (m *move) rests() string {
	switch {
	case m.row == nil:
	case m.to == models.Waiting, m.to == models.Paused:
		return hold
	case m.row.WaitingSince != nil, m.resumes():
		return unhold
	}
	return ""
}

// resumes: moves out of paused name no other status.
func (m *move) resumes() bool { return len(m.from) == 1 && m.from[0] == models.Paused }

// restDeadlines follows the moves into and out of waiting and paused.
func (s *Service) restDeadlines(ctx context.Context, tx *database.Tx, moves []*move, now int64) error {
	moves = slices.DeleteFunc(slices.Clone(moves), func(m *move) bool { return m.rests() == "" })
	if len(moves) == 0 {
		return nil
	}
	if tx.Postgres() {
		ids := make([]string, len(moves))
		for i, m := range moves {
			ids[i] = m.id
		}
		if _, err := tx.Exec(ctx, lockChains, ids); err != nil {
			return fmt.Errorf("lock what waits for %d executions: %w", len(ids), err)
		}
	}
	for _, m := range moves {
		statement := m.rests()
		if _, err := tx.Exec(ctx, chainAbove(tx.Postgres())+statement, m.id, now); err != nil {
			return fmt.Errorf("rest the deadlines above %s: %w", m.id, err)
		}
		if m.row.WaitingSince != nil && statement == unhold && s.LeftWaiting != nil {
			if err := s.LeftWaiting(ctx, tx, m.row, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// active is the condition of the index executions_active, word for word: planners use a partial index only when they find it.
const active = "finished_at IS NULL"

func activeOf(table string) string { return table + "." + active }

// What changes a row without moving its status.

// A call inside an agent may become known before the one that made it. It gets its parent when the agent names it, as long as nothing
// waits below: time with a person was counted for those that were known above.
const (
	setParent   = `UPDATE executions SET parent_id = $2 WHERE id = $1 AND local AND parent_id IS NULL AND holds = 0 AND ` + active + ` RETURNING run_id, node_id, attempt`
	isNoRoot    = `UPDATE runs SET roots = roots - 1 WHERE id = $1`
	waitsBelow  = `SELECT coalesce(sum(holds), 0) FROM executions WHERE parent_id = $1 AND ` + active
	holdForMore = ` UPDATE executions SET holds = holds + $3,
		deadline_left_ms = CASE WHEN holds = 0 THEN deadline_at - $2 ELSE deadline_left_ms END,
		deadline_at = CASE WHEN holds = 0 THEN NULL ELSE deadline_at END
		WHERE id IN (SELECT id FROM chain) AND finished_at IS NULL`
)

func (s *Service) adopt(ctx context.Context, id, parent string) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		var run string
		e := &models.Event{ExecutionID: &id, RunID: &run, Kind: event.KindAdopted, At: s.DB.NowMs(), Data: asJSON(map[string]any{"parent": parent})}
		err := tx.QueryRow(ctx, setParent, []any{id, parent}, &run, &e.NodeID, &e.Attempt)
		if errors.Is(err, database.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, isNoRoot, run); err != nil {
			return err
		}
		return s.Events.Append(ctx, tx, e)
	})
	if err != nil {
		return fmt.Errorf("give %s its parent: %w", id, err)
	}
	return nil
}

// joinChain counts what already waits below a call that has just become known, for it and for all above it.
func joinChain(ctx context.Context, tx *database.Tx, row *models.Execution) error {
	var n int64
	if err := tx.QueryRow(ctx, waitsBelow, []any{row.ID}, &n); err != nil || n == 0 {
		return err
	}
	_, err := tx.Exec(ctx, chainAbove(tx.Postgres())+holdForMore, row.ID, row.CreatedAt, n)
	return err
}

const (
	releaseLease = `UPDATE executions SET lease_owner = NULL, instance_id = $1
		WHERE id = $2 AND status = 'running' AND lease_owner = $3 AND attempt = $4 RETURNING run_id, node_id`
	// The node took the call over while the execution waited or was paused: nobody has it open any more.
	releaseHeld = `UPDATE executions SET held_by = NULL, instance_id = $1
		WHERE id = $2 AND status IN ('waiting', 'paused') AND held_by = $3 AND attempt = $4 RETURNING run_id, node_id`
	countRound  = `UPDATE executions SET rounds = rounds + 1 WHERE id = $1 RETURNING rounds`
	setProgress = `UPDATE executions SET progress = coalesce($1, progress), progress_note = coalesce($2, progress_note)
		WHERE id = $3 AND status IN ('running', 'waiting', 'paused') RETURNING run_id, node_id, attempt`
)

// release gives up the lease of a call that its node has taken over (202): the execution stays running under its deadline until the
// node reports.
func (s *Service) release(ctx context.Context, c *claimed, instance string) (bool, error) {
	released := false
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		released = false
		var run, node string
		err := tx.QueryRow(ctx, releaseLease, []any{instance, c.ID, c.owner, c.Attempt}, &run, &node)
		if errors.Is(err, database.ErrNoRows) {
			err = tx.QueryRow(ctx, releaseHeld, []any{instance, c.ID, c.owner, c.Attempt}, &run, &node)
		}
		if errors.Is(err, database.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		released = true
		return s.Events.Append(ctx, tx, &models.Event{
			ExecutionID: &c.ID, RunID: &run, NodeID: node, Kind: event.KindReleased, Attempt: c.Attempt, At: s.DB.NowMs(),
			Data: asJSON(map[string]any{"instance_id": instance}),
		})
	})
	if err != nil {
		return false, fmt.Errorf("release the lease of %s: %w", c.ID, err)
	}
	return released, nil
}
