package execution

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// waiters are those who wait in this process for an execution to end or to pause. A settlement made here hands over the row; a hint
// from elsewhere makes the waiter read it; and every half second all of them are compared with the database.
type waiters struct {
	mu   sync.Mutex
	byID map[string]map[*waiter]struct{}
}

type waiter struct {
	settled chan outcome  // the row and its result, when the end was written here
	changed chan struct{} // look at the row
	every   bool          // every status matters, not only the end and a wait: who waits for the result need not read the row so often
}

type outcome struct {
	row    *models.Execution
	result []byte
}

func (w *waiters) add(id string) *waiter {
	one := &waiter{settled: make(chan outcome, 1), changed: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byID == nil {
		w.byID = map[string]map[*waiter]struct{}{}
	}
	if w.byID[id] == nil {
		w.byID[id] = make(map[*waiter]struct{}, 1)
	}
	w.byID[id][one] = struct{}{}
	return one
}

func (w *waiters) remove(id string, one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byID[id], one)
	if len(w.byID[id]) == 0 {
		delete(w.byID, id)
	}
}

func (w *waiters) settled(row *models.Execution, result []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.byID[row.ID] {
		select {
		case one.settled <- outcome{row, result}:
		default:
		}
	}
}

func (w *waiters) changed(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.byID[id] {
		select {
		case one.changed <- struct{}{}:
		default:
		}
	}
}

// watch makes a waiter hear of every status.
func (w *waiters) watch(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one.every = true
}

// moved tells those to whom every status matters.
func (w *waiters) moved(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.byID[id] {
		if !one.every {
			continue
		}
		select {
		case one.changed <- struct{}{}:
		default:
		}
	}
}

func (w *waiters) ids() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]string, 0, len(w.byID))
	for id := range w.byID {
		ids = append(ids, id)
	}
	return ids
}

// checkWaiters is the fallback for every hint that was lost: one query for all who wait.
func (s *Service) checkWaiters(ctx context.Context) (bool, error) {
	ids := s.waiters.ids()
	for len(ids) > 0 {
		page := ids[:min(len(ids), 1000)]
		ids = ids[len(page):]
		rows, err := s.queryIDs(ctx, `SELECT id FROM executions WHERE id IN (%s) AND status IN ('waiting', 'succeeded', 'failed', 'timeout', 'cancelled')`, page)
		if err != nil {
			return false, fmt.Errorf("look after those who wait: %w", err)
		}
		var ended []string
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				rows.Close()
				return false, fmt.Errorf("look after those who wait: %w", err)
			}
			ended = append(ended, id)
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return false, fmt.Errorf("look after those who wait: %w", err)
		}
		for _, id := range ended {
			s.waiters.changed(id)
		}
	}
	return false, nil
}

// Finished is an execution with its result, as far as it has one.
type Finished struct {
	Row      *models.Execution
	Result   []byte // JSON; nil when there is none
	Details  []byte // JSON of error_details; nil when there is none
	Partial  []byte // JSON: what the agent has shown of its result, when there is no result; nil: nothing
	Replayed bool
}

// Call runs an execution while its caller waits. It returns when the execution has ended, when it waits for a person (unless through),
// or at its limit, at which it is ended as timeout. The errors are those of Submit; what became of an accepted execution is never an error.
func (s *Service) Call(ctx context.Context, sub Submission, through bool) (Finished, error) {
	if sub.Timeout <= 0 {
		sub.Timeout = s.SyncTimeout
	}
	item, err := s.prepare(ctx, sub, "sync")
	if err != nil {
		return Finished{}, err
	}
	own := s.claimDirectly(ctx, item, sub)
	if own != nil {
		if !s.begins(own) {
			return Finished{}, ErrDraining
		}
		defer func() {
			if own != nil {
				s.ends(own) // not written, or an earlier request's: there is nothing to run
			}
		}()
	}
	w := s.waiters.add(sub.ID)
	defer s.waiters.remove(sub.ID, w)
	start, err := s.submit(ctx, item)
	if err != nil {
		return Finished{}, err
	}
	if start.Replayed {
		s.waiters.remove(sub.ID, w)
		w = s.waiters.add(start.Row.ID)
		defer s.waiters.remove(start.Row.ID, w)
		s.waiters.changed(start.Row.ID) // as it is now, it may have ended already
	} else if own != nil {
		go func(c *claimed) { //nolint:contextcheck // the call outlives the request: its caller may go
			defer s.direct.Done()
			s.run(c.term.Context(), c)
		}(own)
		own = nil
	}
	done := func(status models.Status) bool { return status.Terminal() || (status == models.Waiting && !through) }
	f, err := s.await(ctx, start.Row.ID, w, time.Duration(*item.row.TimeoutMs)*time.Millisecond, done)
	f.Replayed = start.Replayed
	return f, err
}

// claimDirectly makes a synchronous call start in this replica without going through the queue. Where there is a limit its places are given
// out by the claim alone, and a key has an order.
func (s *Service) claimDirectly(ctx context.Context, item *submission, sub Submission) *claimed {
	f, err := s.Nodes.Lookup(ctx, sub.NodeID, sub.Function)
	if err != nil || f.Limited || sub.Along.Key != "" {
		return nil
	}
	term := s.Replica.Term()
	row := item.row
	row.Status, row.Attempt, row.LeaseOwner = models.Running, 1, &term.ID
	row.StartedAt = &row.CreatedAt
	return &claimed{Execution: row, owner: term.ID, term: term, input: sub.Input}
}

// begins counts a call that Drain has to wait for; false when it is too late to begin one.
func (s *Service) begins(c *claimed) bool {
	s.draining.Lock()
	defer s.draining.Unlock()
	if s.Draining() {
		return false
	}
	s.direct.Add(1)
	s.hand.Take(c.ID)
	return true
}

func (s *Service) ends(c *claimed) {
	s.hand.Drop(c.ID)
	s.direct.Done()
}

// await waits until done says so, or until the limit, at which the execution is ended.
func (s *Service) await(ctx context.Context, id string, w *waiter, limit time.Duration, done func(models.Status) bool) (Finished, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case o := <-w.settled:
			if done(o.row.Status) {
				return s.withDetails(ctx, Finished{Row: o.row, Result: o.result})
			}
		case <-w.changed:
			if len(w.settled) > 0 {
				continue // the same news, with the row
			}
			f, err := s.Get(ctx, id)
			if err != nil || done(f.Row.Status) {
				return f, err
			}
		case <-timer.C:
			f, left, err := s.timeOut(ctx, id, limit)
			if err != nil || left <= 0 {
				return f, err
			}
			timer.Reset(left)
		case <-s.stopping:
			timer.Reset(min(limit, 20*time.Second)) // shutting down: whoever waits gets an answer before the connection goes
			return s.awaitDraining(ctx, id, w, timer, done)
		}
	}
}

// awaitDraining gives a caller the outcome if it comes in time; else the state as it is, which the caller can come back for.
func (s *Service) awaitDraining(ctx context.Context, id string, w *waiter, timer *time.Timer, done func(models.Status) bool) (Finished, error) {
	for {
		select {
		case o := <-w.settled:
			if done(o.row.Status) {
				return s.withDetails(ctx, Finished{Row: o.row, Result: o.result})
			}
		case <-w.changed:
			f, err := s.Get(ctx, id)
			if err != nil || done(f.Row.Status) || f.Row.Status == models.Queued || f.Row.Status == models.Pending {
				return f, err
			}
		case <-timer.C:
			return s.Get(ctx, id)
		}
	}
}

// timeOut ends an execution at the limit of its caller, or tells how much is left because time with a person was not charged. Whoever
// was faster wins, and the caller is told what is on record.
func (s *Service) timeOut(ctx context.Context, id string, limit time.Duration) (f Finished, left time.Duration, err error) {
	row, err := s.Row(ctx, id)
	if err != nil || row.Status.Terminal() {
		f, err = s.Get(ctx, id)
		return f, 0, err
	}
	if row.Holds > 0 {
		return Finished{}, time.Second, nil
	}
	if row.DeadlineAt != nil {
		if left = msDuration(*row.DeadlineAt - s.DB.NowMs()); left > 0 {
			return Finished{}, left, nil
		}
	}
	_, err = s.transition(ctx, &move{
		id: id, from: []models.Status{row.Status}, to: models.Timeout, attempt: row.Attempt, failure: timedOut(limit), reason: "agent_timeout",
		instance: s.inFlight.instance(id), notify: row.Status == models.Running,
	})
	if err != nil {
		return Finished{}, 0, fmt.Errorf("end %s at its limit: %w", id, err)
	}
	if f, err = s.Get(ctx, id); err == nil && !f.Row.Status.Terminal() {
		return f, time.Millisecond, nil // it moved on in this moment: judge again
	}
	return f, 0, err
}

func timedOut(limit time.Duration) *failure {
	return &failure{code: "agent_timeout", category: "agent_timeout", message: fmt.Sprintf("Execution exceeded %s limit", inSeconds(limit))}
}

func inSeconds(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%d second", int(d.Seconds()))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// Wait returns the execution once its status is another than the known one, or as it is after d. Without a known status it is the one at
// the time of asking; what has ended is returned at once.
func (s *Service) Wait(ctx context.Context, id string, d time.Duration, known models.Status) (Finished, error) {
	w := s.waiters.add(id)
	s.waiters.watch(w)
	defer s.waiters.remove(id, w)
	f, err := s.Get(ctx, id)
	if err != nil || d <= 0 {
		return f, err
	}
	if known == "" {
		known = f.Row.Status
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for !f.Row.Status.Terminal() && f.Row.Status == known {
		select {
		case <-w.settled:
		case <-w.changed:
		case <-timer.C:
			return s.Get(ctx, id)
		case <-s.stopping:
			return s.Get(ctx, id)
		}
		if f, err = s.Get(ctx, id); err != nil {
			return f, err
		}
	}
	return f, nil
}

const recheck = 2 * time.Second

// WaitWhile returns when something happened to an execution, at the latest after d or two seconds: look again then.
func (s *Service) WaitWhile(ctx context.Context, id string, status models.Status, d time.Duration) error {
	w := s.waiters.add(id)
	defer s.waiters.remove(id, w)
	row, err := s.Row(ctx, id)
	if err != nil || row.Status != status {
		return err
	}
	timer := time.NewTimer(min(d, recheck))
	defer timer.Stop()
	select {
	case <-w.settled:
	case <-w.changed:
	case <-timer.C:
	case <-s.stopping:
	}
	return nil
}

// withDetails adds what an agent said besides its error, which is stored apart.
func (s *Service) withDetails(ctx context.Context, f Finished) (Finished, error) {
	if f.Row.Status != models.Failed {
		return f, nil
	}
	details, err := s.Payload(ctx, f.Row.ID, models.PayloadErrorDetails)
	if errors.Is(err, database.ErrNoRows) {
		err = nil
	}
	f.Details = details
	return f, err
}
