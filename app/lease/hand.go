package lease

import "sync"

// Hand is what this replica holds, from the claim until the outcome is recorded. What is ours by the record and not in hand is worked on
// by nobody: the answer to the commit of its claim was lost, or its outcome could not be recorded. This replica lives, so its lease would
// never pass on by itself. The zero value is an empty hand.
type Hand struct {
	mu     sync.Mutex
	held   map[string]int
	missed map[string]struct{} // ours by the record, and not held, at the last look
}

// Take adds a row.
func (h *Hand) Take(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held == nil {
		h.held = map[string]int{}
	}
	h.held[id]++
}

// Drop removes a row, whatever became of it.
func (h *Hand) Drop(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[id]--; h.held[id] <= 0 {
		delete(h.held, id)
	}
}

// Lost picks, of the rows that are ours by the record, those that are not held now and were not at the last look: between the commit of a
// claim and Take passes a moment.
func (h *Hand) Lost(ours []string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	missed := map[string]struct{}{}
	var lost []string
	for _, id := range ours {
		if h.held[id] > 0 {
			continue
		}
		if _, again := h.missed[id]; again {
			lost = append(lost, id)
		}
		missed[id] = struct{}{}
	}
	h.missed = missed
	return lost
}
