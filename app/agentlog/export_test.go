package agentlog

import "context"

// Sweep clears away all there is to clear.
func (s *Service) Sweep(ctx context.Context) error {
	for {
		again, err := s.sweep(ctx)
		if err != nil || !again {
			return err
		}
	}
}

// Announce tells of what was written since the last time.
func (s *Service) Announce(ctx context.Context) error {
	_, err := s.announce(ctx)
	return err
}
