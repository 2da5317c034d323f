package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/report"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

// footprint measures what the program costs when it does nothing: on a fresh store, and after the load of this run.
func (b *bench) footprint(ctx context.Context) error {
	after, err := b.server.RSS()
	if err != nil {
		return err
	}
	peak, err := b.server.PeakRSS()
	if err != nil {
		return err
	}
	idle, starts, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	b.row("idle memory", report.MB(idle), "after this run "+report.MB(after)+", peak "+report.MB(peak), "", aim{"≤ 40 MB", idle <= 40e6})
	median := starts.Percentile(50)
	b.row("start-up, median of "+strconv.Itoa(len(starts)), report.Ms(median)+" ms", "slowest "+report.Ms(starts.Max())+" ms", "",
		aim{"≤ 150 ms", median <= 150*time.Millisecond})
	info, err := os.Stat(b.options.Binary)
	if err != nil {
		return fmt.Errorf("measure the binary: %w", err)
	}
	b.row("binary", report.MB(info.Size()), "", "")
	return nil
}

// fresh starts a server on an empty store, lets it rest, reads its memory, and starts it a few times more on what it made.
func (b *bench) fresh(ctx context.Context) (int64, report.Durations, error) {
	store, err := server.NewStore(ctx, b.options.PostgresURL)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = store.Close() }()
	s, err := server.Start(ctx, server.Settings{Binary: b.options.Binary, Store: store})
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = s.Kill() }()
	time.Sleep(3 * time.Second)
	idle, err := s.RSS()
	if err != nil {
		return 0, nil, err
	}
	var starts report.Durations
	for range b.starts {
		if err := s.Stop(); err != nil {
			return 0, nil, err
		}
		if err := s.Restart(ctx); err != nil {
			return 0, nil, err
		}
		starts = append(starts, s.StartedIn)
	}
	return idle, starts, nil
}
