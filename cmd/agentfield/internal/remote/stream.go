package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	longestPause = 10 * time.Second
	maxLine      = 16 << 20         // bytes of one event
	silence      = 75 * time.Second // more than two heartbeats of the slowest stream: then the connection is dead
)

// Event is one of a stream of server-sent events.
type Event struct {
	ID, Name string // of which a server may leave out either
	Data     []byte
}

// Follow is a stream to be followed until it has ended.
type Follow struct {
	// Next says what to ask for now: the beginning at first, after a lost connection what comes behind the last event that was taken.
	Next func() Request
	// Take is given each event. It says when there is nothing more to come.
	Take func(Event) (done bool, err error)
	// Lost is told of a connection that broke and of how long the next try will wait; may be nil.
	Lost func(err error, pause time.Duration)
	// Reached says that the server has answered before, so that a first connection which fails is only a lost one.
	Reached bool
}

var (
	errCut    = errors.New("the server closed the stream")
	errSilent = errors.New("the server fell silent")
)

// Follow returns when the stream says that it is over, with what ends it for good, or with ctx. A server that was never
// reached is tried once; one that was is tried for as long as ctx lasts.
func (s *Server) Follow(ctx context.Context, f Follow) error {
	pause := newPause(s.FirstPause)
	for reached := f.Reached; ; {
		progress, done, err := s.connect(ctx, f)
		switch {
		case done || ctx.Err() != nil:
			return err
		case Final(err), !reached && !progress:
			return err
		case progress:
			reached = true
			pause = newPause(s.FirstPause)
		}
		wait := pause.next(err)
		if f.Lost != nil {
			f.Lost(err, wait)
		}
		if !Sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// connect follows one connection. progress tells that it was there at all; done that there is nothing more to come.
func (s *Server) connect(ctx context.Context, f Follow) (progress, done bool, err error) {
	ctx, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	r := f.Next()
	if r.Header == nil {
		r.Header = map[string]string{}
	}
	r.Method, r.Header["Accept"] = http.MethodGet, "text/event-stream"
	watchdog := time.AfterFunc(silence, func() { hangUp(errSilent) })
	defer watchdog.Stop()
	response, err := s.send(ctx, r)
	if err != nil {
		return false, false, err
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode == http.StatusNoContent:
		return true, true, nil
	case response.StatusCode != http.StatusOK:
		_, err := s.read(response)
		return false, false, err
	}
	done, err = events(response.Body, func(e Event) (bool, error) {
		watchdog.Reset(silence)
		return f.Take(e)
	})
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		err = errSilent
	}
	return true, done, err
}

// events reads until take has enough or the stream breaks.
func events(body io.Reader, take func(Event) (bool, error)) (done bool, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	var e Event
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if e.Data != nil {
				done, err := take(e)
				if done || err != nil {
					return true, err
				}
			}
			e = Event{}
		case field == "id":
			e.ID = value
		case field == "event":
			e.Name = value
		case field == "data":
			if e.Data != nil {
				e.Data = append(e.Data, '\n')
			}
			e.Data = append(e.Data, value...)
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("the connection is lost: %w", err)
	}
	return false, errCut
}

// Final reports whether asking again would get the same answer.
func Final(err error) bool {
	r, refused := errors.AsType[*Refusal](err)
	return refused && r.Status < http.StatusInternalServerError && r.Status != http.StatusTooManyRequests
}

// growing is the time between two tries: twice as long each time, up to a limit.
type growing struct{ now time.Duration }

func newPause(first time.Duration) *growing {
	if first <= 0 {
		first = 500 * time.Millisecond
	}
	return &growing{now: first}
}

// next is the pause to make now. A server that says how long to wait is believed.
func (g *growing) next(err error) time.Duration {
	pause := g.now
	g.now = min(2*g.now, longestPause)
	if r, ok := errors.AsType[*Refusal](err); ok {
		pause = max(pause, min(r.RetryAfter, longestPause))
	}
	return pause
}

// Sleep waits, unless ctx ends before: then it is false.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
