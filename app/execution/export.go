package execution

import (
	"context"
	"fmt"

	"github.com/agentfield/agentfield/models"
)

const exportPage = 500

// Export reads everything that a filter finds, newest first, in pages, so that what is exported may be longer than memory.
type Export struct {
	list   *Service
	filter Filter
	left   int
	ended  bool
	cut    bool
}

// Export begins to read what a filter finds, at most limit rows of it.
func (s *Service) Export(f Filter, limit int) *Export {
	f.Cursor = ""
	return &Export{list: s, filter: f, left: limit}
}

// Next is the next rows; none at the end.
func (e *Export) Next(ctx context.Context) ([]*models.Execution, error) {
	if e.ended {
		return nil, nil
	}
	page, err := e.list.page(ctx, e.filter, min(exportPage, e.left))
	if err != nil {
		return nil, fmt.Errorf("export executions: %w", err)
	}
	e.left -= len(page.Rows)
	e.filter.Cursor = page.Next
	e.ended = page.Next == "" || e.left == 0
	e.cut = e.ended && page.Next != ""
	return page.Rows, nil
}

// Cut reports, at the end, whether there was more than the limit.
func (e *Export) Cut() bool { return e.cut }
