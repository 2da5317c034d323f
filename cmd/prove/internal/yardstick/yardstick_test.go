package yardstick

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// slow is a store that commits only when it is told to.
type slow struct {
	turn    chan struct{}
	mu      sync.Mutex
	batches []int
	err     error
}

func (s *slow) commit(_ context.Context, batch []*item) error {
	<-s.turn
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, len(batch))
	return s.err
}

func (s *slow) close() error { return nil }

func TestWhatWaitsTogetherIsCommittedTogether(t *testing.T) {
	s := &slow{turn: make(chan struct{}), err: errors.New("disk full")}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := &group{store: s, queue: make(chan *item, 16)}
	items := make([]*item, 5)
	for i := range items {
		items[i] = &item{done: make(chan error, 1)}
		g.queue <- items[i]
	}
	go g.write(ctx)
	close(s.turn)
	for _, it := range items {
		if err := <-it.done; !errors.Is(err, s.err) {
			t.Errorf("got %v, want the error of the commit", err)
		}
	}
	if len(s.batches) != 1 || s.batches[0] != 5 {
		t.Errorf("got commits of %v, want one of 5", s.batches)
	}
}

func TestSQLiteKeepsInputAndResult(t *testing.T) {
	s, err := openSQLite(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.close() }()
	insert := &item{id: 1, body: []byte(`{"x":1}`)}
	finish := &item{id: 1, body: []byte(`2`), finish: true}
	if err := s.commit(t.Context(), []*item{insert, finish}); err != nil {
		t.Fatal(err)
	}
	if err := s.commit(t.Context(), []*item{{id: 2, body: []byte(`{}`)}, insert}); err == nil {
		t.Error("a batch with a repeated id must fail")
	}
	var inputs int
	var input, result string
	const read = `SELECT (SELECT count(*) FROM inputs), i.body, r.body FROM inputs i JOIN results r USING (id)`
	if err := s.conn.QueryRowContext(t.Context(), read).Scan(&inputs, &input, &result); err != nil {
		t.Fatal(err)
	}
	if inputs != 1 || input != `{"x":1}` || result != `2` {
		t.Errorf("got %d inputs, %s and %s", inputs, input, result)
	}
}
