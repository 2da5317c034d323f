package lease

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const maxPause = 10 * time.Second // between two tries of a loop whose work fails

// Loop repeats one piece of background work until it is stopped. Errors do not end it: it logs the first of a row, pauses longer
// and longer up to ten seconds, and says when it works again.
type Loop struct {
	Name  string
	Every time.Duration // between two runs, ±20 %; Wake shortens it
	// Do runs once. again asks for the next run at once, next (if not zero) for one no later than that.
	Do  func(ctx context.Context) (again bool, err error)
	Log *slog.Logger

	once    sync.Once
	wake    chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
	lastOK  atomic.Int64
	dueAtMs atomic.Int64
}

// Loops are all of a service.
type Loops []*Loop

// Start begins to run each of them.
func (all Loops) Start() {
	for _, l := range all {
		l.Start()
	}
}

// Stop stops them one after the other, and waits for each.
func (all Loops) Stop() {
	for _, l := range all {
		l.Stop()
	}
}

// Rest waits without listening for a wake-up: what fails is not tried faster because there is more of it. It reports false when ctx
// ended first.
func Rest(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (l *Loop) setUp() {
	l.once.Do(func() {
		l.wake = make(chan struct{}, 1)
		l.done = make(chan struct{})
	})
}

// Start begins to run, at once for the first time.
func (l *Loop) Start() {
	l.setUp()
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.lastOK.Store(time.Now().UnixMilli())
	go l.run(ctx)
}

// Stop cancels the current run and waits for its end.
func (l *Loop) Stop() {
	l.setUp()
	if l.cancel == nil {
		return
	}
	l.cancel()
	<-l.done
}

// Wake asks for a run now. It never blocks; several calls may lead to one run.
func (l *Loop) Wake() {
	l.setUp()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// DueIn asks the loop not to sleep longer than d before its next run. To be called from Do.
func (l *Loop) DueIn(d time.Duration) { l.dueAtMs.Store(time.Now().Add(d).UnixMilli()) }

// LastSuccess is when Do last returned without an error.
func (l *Loop) LastSuccess() time.Time { return time.UnixMilli(l.lastOK.Load()) }

func (l *Loop) run(ctx context.Context) {
	defer close(l.done)
	failures := 0
	for {
		l.dueAtMs.Store(0)
		again, err := l.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			if failures == 1 {
				l.Log.Error("background work fails; trying again", "loop", l.Name, "error", err)
			}
			if !Rest(ctx, Backoff{First: 100 * time.Millisecond, Max: maxPause}.Delay(failures)) {
				return
			}
			continue
		}
		if failures > 0 {
			l.Log.Info("background work is back", "loop", l.Name, "failures", failures)
			failures = 0
		}
		l.lastOK.Store(time.Now().UnixMilli())
		if !again && !l.rest(ctx) {
			return
		}
	}
}

func (l *Loop) attempt(ctx context.Context) (again bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.Log.Error("background work panicked", "loop", l.Name, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return l.Do(ctx)
}

func (l *Loop) rest(ctx context.Context) bool {
	d := time.Duration(float64(l.Every) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // jitter
	if due := l.dueAtMs.Load(); due > 0 {
		d = min(d, max(time.Until(time.UnixMilli(due)), time.Millisecond))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-l.wake:
	case <-t.C:
	}
	return true
}
