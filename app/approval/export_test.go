package approval

import "context"

// The steps that the background work takes by itself, one at a time, for tests that decide what happens when.

// Sweep carries out held decisions and expires requests, as of now.
func (s *Service) Sweep(ctx context.Context) error { return settled(ctx, s.sweep) }

// SweepUntold ends executions whose decision nobody took, as of now.
func (s *Service) SweepUntold(ctx context.Context) error { return settled(ctx, s.sweepUntold) }

func settled(ctx context.Context, step func(context.Context) (bool, error)) error {
	for {
		if again, err := step(ctx); err != nil || !again {
			return err
		}
	}
}
