package lease

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Worker claims leased work and runs it, never more at once than it has slots. One claim is on its way at a time; whatever becomes
// free meanwhile goes into the next one.
type Worker[T any] struct {
	Name  string
	Slots int
	Poll  time.Duration // how long a lost wake-up may cost
	// Claim takes up to n pieces of work for this replica.
	Claim func(ctx context.Context, n int) ([]T, error)
	// Run does one of them. It gets the worker's context, which ends when Stop has waited long enough.
	Run func(ctx context.Context, work T)
	// NextDue, if set, tells in how long the next delayed piece is due; ok is false when there is none.
	NextDue func(ctx context.Context) (d time.Duration, ok bool, err error)
	Log     *slog.Logger

	once   sync.Once
	loop   Loop
	inUse  atomic.Int64
	hungry atomic.Bool // the last claim was cut short by the number of slots
	wg     sync.WaitGroup
	ctx    context.Context //nolint:containedctx // lifetime of the runs, ended by Stop
	cancel context.CancelFunc
}

// Start begins to claim.
func (w *Worker[T]) Start() {
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.prepare()
	w.loop.Start()
}

// Wake says that there may be work.
func (w *Worker[T]) Wake() { w.loop.Wake() }

// InUse counts the slots that are taken.
func (w *Worker[T]) InUse() int { return int(w.inUse.Load()) }

// Loop is the claiming loop, for supervision.
func (w *Worker[T]) Loop() *Loop {
	w.prepare()
	return &w.loop
}

func (w *Worker[T]) prepare() {
	w.once.Do(func() { w.loop.Name, w.loop.Every, w.loop.Do, w.loop.Log = w.Name, w.Poll, w.claim, w.Log })
}

// Drain stops claiming and waits until what runs has ended, at most as long as ctx lives; then it cancels the rest and waits for it.
func (w *Worker[T]) Drain(ctx context.Context) {
	w.loop.Stop()
	if w.cancel == nil {
		return
	}
	ended := make(chan struct{})
	go func() { w.wg.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	w.cancel()
	<-ended
}

func (w *Worker[T]) claim(ctx context.Context) (bool, error) {
	free := w.Slots - w.InUse()
	if free <= 0 {
		w.hungry.Store(true)
		if w.InUse() >= w.Slots {
			return false, nil
		}
		free = w.Slots - w.InUse()
	}
	work, err := w.Claim(ctx, free)
	if err != nil {
		return false, err
	}
	w.hungry.Store(len(work) >= free)
	for _, item := range work {
		w.inUse.Add(1)
		held := &slot{release: w.release}
		w.wg.Go(func() { //nolint:contextcheck // what is claimed runs as long as the worker, not as the claim
			defer held.free()
			if leased, ok := any(item).(interface{ ended() }); ok {
				defer leased.ended()
			}
			defer w.recovered()
			w.Run(context.WithValue(w.ctx, slotKey{}, held), item)
		})
	}
	if len(work) > 0 {
		return true, nil
	}
	return false, w.sleepUntilDue(ctx)
}

// recovered keeps a panic in one run from ending the process; the lease of its work passes on.
func (w *Worker[T]) recovered() {
	if p := recover(); p != nil {
		w.Log.Error("a run panicked", "worker", w.Name, "panic", p, "stack", string(debug.Stack()))
	}
}

// slot is a place of a worker; it is given back once, however often it is asked.
type slot struct {
	once    sync.Once
	release func()
}

func (s *slot) free() { s.once.Do(s.release) }

type slotKey struct{}

// FreeSlot gives back the slot of the run whose context this is, although the run goes on: it has nothing to do for a long time. Outside
// a worker's run it does nothing.
func FreeSlot(ctx context.Context) {
	if held, ok := ctx.Value(slotKey{}).(*slot); ok {
		held.free()
	}
}

func (w *Worker[T]) release() {
	w.inUse.Add(-1)
	if w.hungry.Load() {
		w.Wake()
	}
}

func (w *Worker[T]) sleepUntilDue(ctx context.Context) error {
	if w.NextDue == nil {
		return nil
	}
	d, ok, err := w.NextDue(ctx)
	if err == nil && ok {
		w.loop.DueIn(d)
	}
	return err
}
