package execution

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

// Submission is a call somebody wants made. Ids are opaque text that the API has checked for length.
type Submission struct {
	ID         string // from NewID
	NodeID     string
	Function   string
	Input      []byte // a JSON object, stored and sent as these bytes
	Context    []byte // any JSON, echoed in the webhook
	RunID      string
	WorkflowID string
	ParentID   string
	SessionID  string
	ActorID    string
	StartedBy  string            // the principal, unless it is an agent or nobody in particular
	Caller     string            // the node that calls, when an agent does
	Trace      string            // traceparent
	Headers    map[string]string // further headers that the agent gets as they came
	Timeout    time.Duration
	Retry      RetryPolicy
	Priority   *int        // 0 to 9, 9 goes first; nil: 5
	Along      Concurrency // what it may run beside; the zero value: anything
	Webhook    *models.WebhookRegistration
	Key        *models.IdempotencyKey // Scope, Key and BodyHash
	RerunOf    string                 // the execution that this one repeats
	Record     *audit.Entry           // what to write about it, in the same transaction; nil: nothing
}

// Started is what a submission led to. Replayed says that an earlier request with the same Idempotency-Key is answered instead.
type Started struct {
	Row      *models.Execution
	Replayed bool
}

// submission is one on its way into the store.
type submission struct {
	row      *models.Execution
	workflow string // a caller's name of the run whose run id has to be found
	runGiven bool   // the caller named the run id too, and that decides
	input    *body
	webhook  *models.WebhookRegistration
	key      *models.IdempotencyKey
	record   *audit.Entry
	bounds   []bound // of the queues it joins
	watch    []bound // those that may be full: count them before inserting

	fresh   bool   // nobody has used its key
	written bool   // the row is new: it was not committed before by a try whose answer was lost
	replay  string // id of the execution that has the idempotency key already
	refused error
}

// Submit writes an execution down for a worker to take. It returns after the commit, or an error with nothing written: the node's
// lookup errors, the function's input error, *QueueFullError, ErrDraining, ErrIdempotencyKey, database.ErrBusy.
func (s *Service) Submit(ctx context.Context, sub Submission) (Started, error) {
	item, err := s.prepare(ctx, sub, "async")
	if err != nil {
		return Started{}, err
	}
	if !s.Nodes.Usable(sub.NodeID) {
		item.row.Status = models.Pending
	}
	return s.submit(ctx, item)
}

func (s *Service) prepare(ctx context.Context, sub Submission, mode string) (*submission, error) {
	if s.Draining() {
		return nil, ErrDraining
	}
	f, err := s.Nodes.Lookup(ctx, sub.NodeID, sub.Function)
	if err != nil {
		return nil, err
	}
	if err := f.Validate(sub.Input); err != nil {
		return nil, err
	}
	now := s.DB.NowMs()
	row := &models.Execution{
		ID: sub.ID, RunID: sub.RunID, WorkflowID: optional(sub.WorkflowID), ParentID: optional(sub.ParentID), SessionID: optional(sub.SessionID),
		ActorID: optional(sub.ActorID), Caller: optional(sub.Caller), StartedBy: optional(sub.StartedBy), NodeID: f.NodeID, Function: f.Name, FunctionKind: f.Kind, Mode: mode,
		Status: models.Queued, AvailableAt: now, MaxAttempts: sub.Retry.attempts(), HasWebhook: sub.Webhook != nil, Trace: optional(sub.Trace),
		CreatedAt: now, InputBytes: int64(len(sub.Input)), RerunOf: optional(sub.RerunOf),
	}
	row.Rank, row.AskedBy = rankOf(sub.Priority), cmp.Or(sub.StartedBy, sub.Caller, sub.ActorID)
	sub.Along.on(row)
	if len(sub.Context) > 0 {
		row.Context = optional(string(sub.Context))
	}
	row.Headers = headersText(sub.Headers)
	if policy := asPolicy(sub.Retry); policy != nil {
		row.RetryPolicy = policy
	}
	if sub.Timeout > 0 {
		ms := sub.Timeout.Milliseconds()
		deadline := now + ms
		row.TimeoutMs, row.DeadlineAt = &ms, &deadline
	}
	item := &submission{row: row, input: s.newBody(sub.Input), webhook: sub.Webhook, key: sub.Key, record: sub.Record, bounds: s.bounds(f)}
	if err := s.placeInRun(ctx, item, sub); err != nil {
		return nil, err
	}
	return item, s.inheritTrace(ctx, row)
}

// inheritTrace keeps a call in the trace of the execution that made it, when the agent did not pass that on.
func (s *Service) inheritTrace(ctx context.Context, row *models.Execution) error {
	if row.Trace != nil || row.ParentID == nil {
		return nil
	}
	parent := models.Execution{ID: *row.ParentID}
	err := s.DB.QueryRow(ctx, "SELECT run_id, trace FROM executions WHERE id = $1", []any{parent.ID}, &parent.RunID, &parent.Trace)
	if err != nil && !errors.Is(err, database.ErrNoRows) {
		return fmt.Errorf("read the trace of a parent: %w", err)
	}
	if parent.Trace != nil {
		row.Trace = optional(parent.Traceparent().String())
	}
	return nil
}

// rankOf is the place of a priority in the order of the queue.
func rankOf(priority *int) int {
	if priority == nil {
		return models.MaxPriority - models.DefaultPriority
	}
	return models.MaxPriority - *priority
}

func headersText(headers map[string]string) *string {
	if len(headers) == 0 {
		return nil
	}
	text, err := json.Marshal(headers)
	if err != nil { // strings always marshal
		return nil
	}
	return optional(string(text))
}

// placeInRun decides which run the execution belongs to (ruling C9): X-Run-ID first, then X-Workflow-ID, then the parent's run, else a
// run of its own.
func (s *Service) placeInRun(ctx context.Context, item *submission, sub Submission) error {
	row := item.row
	switch {
	case sub.RunID != "":
		row.RunID = sub.RunID
		if sub.WorkflowID != "" && sub.WorkflowID != sub.RunID {
			item.workflow, item.runGiven = sub.WorkflowID, true
			return nil
		}
		return s.callByName(ctx, row)
	case sub.WorkflowID != "":
		return s.runOfWorkflow(ctx, item, sub.WorkflowID)
	case sub.ParentID != "":
		err := s.DB.QueryRow(ctx, "SELECT run_id, workflow_id FROM executions WHERE id = $1", []any{sub.ParentID}, &row.RunID, &row.WorkflowID)
		if err != nil && !errors.Is(err, database.ErrNoRows) {
			return fmt.Errorf("read the parent of an execution: %w", err)
		}
	}
	if row.RunID == "" {
		row.RunID = newID("run_")
	}
	return nil
}

// runOfWorkflow finds the run a caller means by its own name. The name may also be a run id, since agents pass on what they were given.
func (s *Service) runOfWorkflow(ctx context.Context, item *submission, workflow string) error {
	run, err := s.resolveRun(ctx, workflow)
	if err != nil {
		return err
	}
	if run == "" {
		item.workflow = workflow
		run = newID("run_")
	}
	item.row.RunID = run
	if run == workflow {
		return s.callByName(ctx, item.row)
	}
	return nil
}

// callByName gives an execution the name its callers gave the run, if they gave one: agents pass on the run id alone.
func (s *Service) callByName(ctx context.Context, row *models.Execution) error {
	row.WorkflowID = nil
	err := s.DB.QueryRow(ctx, "SELECT workflow_id FROM run_aliases WHERE run_id = $1 ORDER BY workflow_id LIMIT 1", []any{row.RunID}, &row.WorkflowID)
	if err != nil && !errors.Is(err, database.ErrNoRows) {
		return fmt.Errorf("look for the name of a run: %w", err)
	}
	return nil
}

// WorkflowName is the name by which a run is known everywhere, whichever of its ids is given: its callers' name for it, else its own id. What
// no run is known by is returned as it is.
func (s *Service) WorkflowName(ctx context.Context, id string) (string, error) {
	name := id
	err := s.DB.QueryRow(ctx, `SELECT coalesce((SELECT min(a.workflow_id) FROM run_aliases a WHERE a.run_id = r.run_id), r.run_id)
		FROM (SELECT run_id FROM run_aliases WHERE workflow_id = $1 UNION ALL SELECT run_id FROM executions WHERE run_id = $1 LIMIT 1) r`, []any{id}, &name)
	if err != nil && !errors.Is(err, database.ErrNoRows) {
		return "", fmt.Errorf("look for the name of the run %q: %w", id, err)
	}
	return name, nil
}

// resolveRun returns the run id behind a run id or a caller's workflow id, "" when neither is known.
func (s *Service) resolveRun(ctx context.Context, id string) (string, error) {
	var run string
	err := s.DB.QueryRow(ctx, `SELECT run_id FROM run_aliases WHERE workflow_id = $1
		UNION ALL SELECT run_id FROM executions WHERE run_id = $1 LIMIT 1`, []any{id}, &run)
	if errors.Is(err, database.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("resolve the run %q: %w", id, err)
	}
	return run, nil
}

// submit commits the row and wakes a worker.
func (s *Service) submit(ctx context.Context, item *submission) (Started, error) {
	waits := item.row.Status != models.Running
	if waits {
		let, err := s.gauge.admit(item.bounds)
		if err != nil {
			return s.accepted(ctx, item, err)
		}
		defer s.gauge.landed(let)
		item.watch = let.watch
	}
	if err := s.submits.Do(ctx, item); err != nil {
		return Started{}, err
	}
	switch {
	case item.refused != nil:
		return s.accepted(ctx, item, item.refused)
	case item.replay != "":
		row, err := s.Row(ctx, item.replay)
		return Started{Row: row, Replayed: true}, err
	}
	s.counters.submitted(item.row)
	if waits {
		s.worker.Wake()
	}
	return Started{Row: item.row}, nil
}

// accepted answers a refused request with the execution that an earlier request with its key has led to: a full queue is no reason to
// forget what was accepted.
func (s *Service) accepted(ctx context.Context, item *submission, refused error) (Started, error) {
	k := item.key
	if k == nil {
		return Started{}, refused
	}
	var hash, id string
	err := s.DB.QueryRow(ctx, "SELECT body_hash, execution_id FROM idempotency_keys WHERE scope = $1 AND key = $2", []any{k.Scope, k.Key}, &hash, &id)
	if errors.Is(err, database.ErrNoRows) || err == nil && hash != k.BodyHash {
		return Started{}, refused
	}
	if err != nil {
		return Started{}, fmt.Errorf("read the idempotency key: %w", err)
	}
	row, err := s.Row(ctx, id)
	return Started{Row: row, Replayed: true}, err
}

// insert writes a batch of submissions; it is the apply function of the group. What may not be written says so in the item.
func (s *Service) insert(ctx context.Context, tx *database.Tx, items []*submission) error {
	if err := s.admit(ctx, tx, items); err != nil {
		return err
	}
	accepted, err := takeKeys(ctx, tx, items)
	if err != nil {
		return err
	}
	if err := nameRuns(ctx, tx, accepted); err != nil {
		return err
	}
	if len(accepted) == 0 {
		return nil
	}
	if err := parkBehindKeys(ctx, tx, accepted); err != nil {
		return err
	}
	if err := insertRows(ctx, tx, accepted); err != nil {
		return fmt.Errorf("insert executions: %w", err)
	}
	return s.recordSubmissions(ctx, tx, accepted)
}

// admit counts exactly where the gauge said that a queue may be full.
func (s *Service) admit(ctx context.Context, tx *database.Tx, items []*submission) error {
	room := map[bound]int{}
	for _, it := range items {
		it.refused = nil
		for _, queue := range it.watch {
			if _, counted := room[queue]; !counted {
				left, err := s.gauge.room(ctx, tx, queue)
				if err != nil {
					return err
				}
				room[queue] = left
			}
			if room[queue] <= 0 {
				it.refused = s.gauge.refuse(queue)
				break
			}
			room[queue]--
		}
	}
	return nil
}

func (it *submission) ordinal() string {
	if it.key == nil {
		return ""
	}
	return it.key.Scope + "\x00" + it.key.Key
}

// takeKeys claims the idempotency keys of a batch and returns what is new. Keys are taken in their own order, and before any name of a
// run: two batches that wait for each other's rows would be a deadlock.
func takeKeys(ctx context.Context, tx *database.Tx, items []*submission) (fresh []*submission, err error) {
	order := slices.Clone(items)
	slices.SortStableFunc(order, func(a, b *submission) int { return strings.Compare(a.ordinal(), b.ordinal()) })
	for _, it := range order {
		it.replay, it.fresh = "", false
		if it.refused == nil {
			if it.fresh, err = takeKey(ctx, tx, it); err != nil {
				return nil, err
			}
		}
	}
	for _, it := range items {
		if it.fresh {
			fresh = append(fresh, it)
		}
	}
	return fresh, nil
}

// takeKey claims the idempotency key. It reports false when another request has it.
func takeKey(ctx context.Context, tx *database.Tx, it *submission) (bool, error) {
	k := it.key
	if k == nil {
		return true, nil
	}
	n, err := tx.Exec(ctx, `INSERT INTO idempotency_keys (scope, key, body_hash, execution_id, created_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (scope, key) DO NOTHING`, k.Scope, k.Key, k.BodyHash, it.row.ID, it.row.CreatedAt)
	if err != nil {
		return false, fmt.Errorf("take the idempotency key: %w", err)
	}
	if n == 1 {
		return true, nil
	}
	var hash, id string
	err = tx.QueryRow(ctx, "SELECT body_hash, execution_id FROM idempotency_keys WHERE scope = $1 AND key = $2", []any{k.Scope, k.Key}, &hash, &id)
	if err != nil {
		return false, fmt.Errorf("read the idempotency key: %w", err)
	}
	switch {
	case id == it.row.ID: // our own, from a commit whose answer was lost
		return true, nil
	case hash != k.BodyHash:
		it.refused = ErrIdempotencyKey
	default:
		it.replay = id
	}
	return false, nil
}

// nameRuns names the new runs of a batch, in the order of their names.
func nameRuns(ctx context.Context, tx *database.Tx, items []*submission) error {
	order := slices.Clone(items)
	slices.SortStableFunc(order, func(a, b *submission) int { return strings.Compare(a.workflow, b.workflow) })
	for _, it := range order {
		if err := nameRun(ctx, tx, it); err != nil {
			return err
		}
	}
	return nil
}

// nameRun stores the caller's name of a new run, or takes the run id that somebody else has given that name meanwhile.
func nameRun(ctx context.Context, tx *database.Tx, it *submission) error {
	if it.workflow == "" {
		return nil
	}
	run := ""
	err := tx.QueryRow(ctx, `INSERT INTO run_aliases (workflow_id, run_id) VALUES ($1, $2)
		ON CONFLICT (workflow_id) DO UPDATE SET workflow_id = excluded.workflow_id RETURNING run_id`, []any{it.workflow, it.row.RunID}, &run)
	if err != nil {
		return fmt.Errorf("name the run: %w", err)
	}
	if !it.runGiven {
		it.row.RunID = run
	}
	return nil
}

const insertedColumns = `id, run_id, workflow_id, parent_id, session_id, actor_id, caller, node_id, function, function_kind, mode, status,
	available_at, attempt, failures, max_attempts, redeliveries, lease_owner, retry_policy, timeout_ms, deadline_at, has_webhook, context, trace,
	created_at, started_at, input_bytes, result_bytes, started_by, rerun_of, local, rank, asked_by, concurrency_key, key_limit, parked, headers`

const insertRow = `INSERT INTO executions (` + insertedColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 0, $15, 0, $16,
	$17, $18, $19, $20, $21, $22, $13, $23, $24, 0, $25, $26, $27, $28, $29, $30, $31, $32, $33) ON CONFLICT (id) DO NOTHING`

const insertBatch = `INSERT INTO executions (` + insertedColumns + `)
	SELECT id, run, workflow, parent, session, actor, caller, node, function, kind, mode, status, created, attempt, 0, attempts, 0, owner, retry,
		timeout, deadline, webhook, context, trace, created, started, bytes, 0, starter, rerun, local, rank, asked, key, key_limit, parked, headers
	FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
		$12::text[], $13::bigint[], $14::int[], $15::int[], $16::text[], $17::text[], $18::bigint[], $19::bigint[], $20::bool[], $21::text[], $22::text[],
		$23::bigint[], $24::bigint[], $25::text[], $26::text[], $27::bool[], $28::smallint[],
		$29::text[], $30::text[], $31::int[], $32::smallint[], $33::text[])
	AS v(id, run, workflow, parent, session, actor, caller, node, function, kind, mode, status, created, attempt, attempts, owner, retry, timeout,
		deadline, webhook, context, trace, started, bytes, starter, rerun, local, rank, asked, key, key_limit, parked, headers)
	ON CONFLICT (id) DO NOTHING RETURNING id`

func insertRows(ctx context.Context, tx *database.Tx, items []*submission) error {
	if tx.Postgres() {
		return insertRowBatch(ctx, tx, items)
	}
	for _, it := range items {
		r := it.row
		n, err := tx.Exec(ctx, insertRow, r.ID, r.RunID, r.WorkflowID, r.ParentID, r.SessionID, r.ActorID, r.Caller, r.NodeID, r.Function, r.FunctionKind,
			r.Mode, string(r.Status), r.CreatedAt, r.Attempt, r.MaxAttempts, r.LeaseOwner, r.RetryPolicy, r.TimeoutMs, r.DeadlineAt, r.HasWebhook, r.Context,
			r.Trace, r.StartedAt, r.InputBytes, r.StartedBy, r.RerunOf, r.Local, r.Rank, r.AskedBy, r.ConcurrencyKey, r.KeyLimit,
			int16(r.Parked), r.Headers)
		if err != nil {
			return err
		}
		it.written = n == 1
	}
	return nil
}

func insertRowBatch(ctx context.Context, tx *database.Tx, items []*submission) error {
	n := len(items)
	text := func() []string { return make([]string, n) }
	maybe := func() []*string { return make([]*string, n) }
	ids, runs, nodes, functions, kinds, modes, statuses := text(), text(), text(), text(), text(), text(), text()
	workflows, parents, sessions, actors, callers, owners, retries, contexts, traces := maybe(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe()
	starters, reruns, headers, asked, keys, keyLimits := maybe(), maybe(), maybe(), text(), maybe(), make([]*int, n)
	ranks, parked := make([]int16, n), make([]int16, n)
	created, sizes := make([]int64, n), make([]int64, n)
	attempt, attempts := make([]int, n), make([]int, n)
	timeouts, deadlines, starts := make([]*int64, n), make([]*int64, n), make([]*int64, n)
	webhooks, locals := make([]bool, n), make([]bool, n)
	for i, it := range items {
		r := it.row
		ids[i], runs[i], nodes[i], functions[i], kinds[i], modes[i], statuses[i] = r.ID, r.RunID, r.NodeID, r.Function, r.FunctionKind, r.Mode, string(r.Status)
		workflows[i], parents[i], sessions[i], actors[i], callers[i] = r.WorkflowID, r.ParentID, r.SessionID, r.ActorID, r.Caller
		owners[i], retries[i], contexts[i], traces[i] = r.LeaseOwner, r.RetryPolicy, r.Context, r.Trace
		starters[i], reruns[i], locals[i], headers[i] = r.StartedBy, r.RerunOf, r.Local, r.Headers
		ranks[i], asked[i], keys[i], keyLimits[i], parked[i] = int16(r.Rank), r.AskedBy, r.ConcurrencyKey, r.KeyLimit, int16(r.Parked) //nolint:gosec // 0 to 9
		created[i], sizes[i], attempt[i], attempts[i] = r.CreatedAt, r.InputBytes, r.Attempt, r.MaxAttempts
		timeouts[i], deadlines[i], starts[i], webhooks[i] = r.TimeoutMs, r.DeadlineAt, r.StartedAt, r.HasWebhook
	}
	rows, err := tx.Query(ctx, insertBatch, ids, runs, workflows, parents, sessions, actors, callers, nodes, functions, kinds, modes, statuses, created,
		attempt, attempts, owners, retries, timeouts, deadlines, webhooks, contexts, traces, starts, sizes, starters, reruns, locals, ranks,
		asked, keys, keyLimits, parked, headers)
	if err != nil {
		return err
	}
	written, err := collectIDs(rows)
	if err != nil {
		return err
	}
	for _, it := range items {
		it.written = len(written) == n || slices.Contains(written, it.row.ID)
	}
	return nil
}

// recordSubmissions writes what belongs to the new rows: their input, their webhook and their first event.
func (s *Service) recordSubmissions(ctx context.Context, tx *database.Tx, items []*submission) error {
	payloads := make([]storedPayload, 0, len(items))
	events := make([]*models.Event, 0, len(items))
	runs := tallies{}
	for _, it := range items {
		r := it.row
		if r.Local && !it.written {
			continue // somebody else has told of it: the row is theirs
		}
		if it.written {
			runs.born(r)
		}
		if it.input != nil {
			payloads = append(payloads, storedPayload{r.ID, models.PayloadInput, it.input})
		}
		if r.Local {
			if err := joinChain(ctx, tx, r); err != nil {
				return fmt.Errorf("count what waits below %s: %w", r.ID, err)
			}
		}
		events = append(events, &models.Event{
			ExecutionID: &r.ID, RunID: &r.RunID, NodeID: r.NodeID, Kind: event.OfStatus(r.Status), Attempt: r.Attempt, At: r.CreatedAt,
		})
		if w := it.webhook; w != nil {
			_, err := tx.Exec(ctx, `INSERT INTO webhook_registrations (execution_id, url, secret, headers) VALUES ($1, $2, $3, $4)
				ON CONFLICT (execution_id) DO NOTHING`, r.ID, w.URL, w.Secret, w.Headers)
			if err != nil {
				return fmt.Errorf("register the webhook: %w", err)
			}
		}
	}
	if err := storePayloads(ctx, tx, payloads); err != nil {
		return err
	}
	if err := runs.begin(ctx, tx); err != nil {
		return err
	}
	if err := s.Events.Append(ctx, tx, events...); err != nil {
		return err
	}
	return recordActs(ctx, tx, items)
}

// recordActs writes down which people have made the new executions. Last, because everybody who acts waits for the end of the log.
func recordActs(ctx context.Context, tx *database.Tx, items []*submission) error {
	var acts []audit.Entry
	for _, it := range items {
		if it.record != nil && it.written {
			acts = append(acts, *it.record)
		}
	}
	return audit.Append(ctx, tx, acts...)
}
