package event

import (
	"slices"
	"sync"

	"github.com/agentfield/agentfield/models"
)

const (
	remembered = 1024 // events a stream may resume from
	maxPending = 512  // events a slow stream may have outstanding before it is told to fetch everything again
)

// Hub tells those who wait in this process that something changed. Publishing never blocks.
type Hub struct {
	mu       sync.Mutex
	recent   []models.Event // the last ones, oldest first
	streams  map[*Stream]struct{}
	watchers map[string]map[*watcher]struct{} // by execution id
	taps     []func([]*models.Event)
	closed   bool
}

// NewHub returns an empty hub.
func NewHub() *Hub {
	return &Hub{streams: map[*Stream]struct{}{}, watchers: map[string]map[*watcher]struct{}{}}
}

// Tap calls f with every published batch, in the publisher's goroutine: f must be quick and must not publish. For wiring at start.
func (h *Hub) Tap(f func([]*models.Event)) { h.taps = append(h.taps, f) }

// Publish passes committed events on.
func (h *Hub) Publish(events ...*models.Event) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	for _, e := range events {
		h.recent = append(h.recent, *e)
		if e.ExecutionID != nil {
			for w := range h.watchers[*e.ExecutionID] {
				w.signal()
			}
		}
	}
	if len(h.recent) > 2*remembered {
		h.recent = slices.Clone(h.recent[len(h.recent)-remembered:])
	}
	for s := range h.streams {
		s.push(events)
	}
	h.mu.Unlock()
	for _, tap := range h.taps {
		tap(events)
	}
}

type watcher struct{ changed chan struct{} }

func (w *watcher) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Watch signals on the channel after each event of one execution; several may be folded into one signal. Read the row after
// subscribing, and now and then besides: a signal may be lost with its replica. stop must be called.
func (h *Hub) Watch(executionID string) (changed <-chan struct{}, stop func()) {
	w := &watcher{changed: make(chan struct{}, 1)}
	h.mu.Lock()
	if h.watchers[executionID] == nil {
		h.watchers[executionID] = map[*watcher]struct{}{}
	}
	h.watchers[executionID][w] = struct{}{}
	h.mu.Unlock()
	return w.changed, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers[executionID], w)
		if len(h.watchers[executionID]) == 0 {
			delete(h.watchers, executionID)
		}
	}
}

// Stream is one client that follows everything. Events gather in it until it is read; when too many gather, it has to resync.
type Stream struct {
	hub     *Hub
	mu      sync.Mutex
	pending []models.Event
	resync  bool
	ready   chan struct{}
	done    chan struct{}
}

// Follow opens a stream that begins after the event with id last; 0 begins now. If that event is not remembered any more the first
// Take says resync.
func (h *Hub) Follow(last int64) *Stream {
	s := &Stream{hub: h, ready: make(chan struct{}, 1), done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(s.done)
		return s
	}
	h.streams[s] = struct{}{}
	if last > 0 {
		at := slices.IndexFunc(h.recent, func(e models.Event) bool { return e.ID == last })
		if at < 0 {
			s.resync = true
		} else {
			s.pending = slices.Clone(h.recent[at+1:])
		}
		s.signal()
	}
	return s
}

// Ready receives when there is something to Take.
func (s *Stream) Ready() <-chan struct{} { return s.ready }

// Done is closed when the hub closes.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Take returns what has gathered. With resync the client must fetch again whatever it shows.
func (s *Stream) Take() (events []models.Event, resync bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, resync = s.pending, s.resync
	s.pending, s.resync = nil, false
	return events, resync
}

// Close ends the stream.
func (s *Stream) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.streams, s)
}

func (s *Stream) push(events []*models.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending)+len(events) > maxPending {
		s.pending, s.resync = nil, true
	} else {
		for _, e := range events {
			s.pending = append(s.pending, *e)
		}
	}
	s.signal()
}

func (s *Stream) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Newest is the id of the last event that was published here; 0 when there was none.
func (h *Hub) Newest() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.recent) == 0 {
		return 0
	}
	return h.recent[len(h.recent)-1].ID
}

// Streams counts the open ones.
func (h *Hub) Streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}

// Close ends every stream. It comes before the server's shutdown: open streams would hold it up.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.closed = true
	for s := range h.streams {
		close(s.done)
	}
	h.streams = map[*Stream]struct{}{}
}
