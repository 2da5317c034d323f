package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// MaxTailLines is how many lines of an agent's log may be asked for at once.
const MaxTailLines = 10_000

const (
	logHeadTimeout = 10 * time.Second // until the agent begins to answer
	logIdleTimeout = time.Minute      // between two pieces of a log that is followed
	logDuration    = 15 * time.Minute // of one reading
	maxLogRefusal  = 16 << 10
)

// What becomes of asking an agent for its log.
var (
	ErrLogUnreachable = errors.New("no instance of the node can be reached for its log")
	ErrLogTimeout     = errors.New("the agent did not answer in time")
)

// LogRefusedError is the answer of an agent that does not show its log.
type LogRefusedError struct {
	Status int
	Body   []byte
}

func (e *LogRefusedError) Error() string { return fmt.Sprintf("the agent answered %d", e.Status) }

// LogQuery is what of its log an agent is asked for.
type LogQuery struct {
	TailLines int    // 0: as many as the agent likes
	SinceSeq  string // "": from the beginning of the tail
	Follow    bool
}

func (q LogQuery) values() url.Values {
	v := url.Values{}
	if q.TailLines > 0 {
		v.Set("tail_lines", strconv.Itoa(q.TailLines))
	}
	if q.SinceSeq != "" {
		v.Set("since_seq", q.SinceSeq)
	}
	if q.Follow {
		v.Set("follow", "1")
	}
	return v
}

// Logs asks an instance of the node for the log of its process (wire.md 3.16): lines of JSON, in its own words. The reader must be closed.
// Errors: ErrUnknownNode, ErrLogUnreachable, ErrLogTimeout and LogRefusedError.
func (s *Service) Logs(ctx context.Context, nodeID string, q LogQuery) (io.ReadCloser, error) {
	_, e, err := s.entry(ctx, nodeID)
	if err != nil {
		return nil, err
	}
	i := e.teller()
	if i == nil {
		return nil, ErrLogUnreachable
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logDuration) // the body is read after the request has been handled
	idle := time.AfterFunc(logHeadTimeout, cancel)
	response, err := s.askForLog(ctx, i, q) //nolint:bodyclose // whoever gets the lines closes it
	if err != nil {
		timedOut := !idle.Stop() || ctx.Err() != nil
		cancel()
		if n, ok := errors.AsType[net.Error](err); timedOut || ok && n.Timeout() {
			return nil, ErrLogTimeout
		}
		return nil, ErrLogUnreachable
	}
	lines := &logLines{body: response.Body, idle: idle, cancel: cancel}
	if response.StatusCode == http.StatusOK {
		return lines, nil
	}
	said, _ := io.ReadAll(io.LimitReader(lines, maxLogRefusal)) //nolint:errcheck // what came of it is enough
	return nil, errors.Join(&LogRefusedError{Status: response.StatusCode, Body: said}, lines.Close())
}

// teller is the newest instance that can be called, else the newest that has not said that it stops.
func (e *entry) teller() *Instance {
	for _, good := range []func(*Instance) bool{(*Instance).usable, func(i *Instance) bool { return i.row.Lifecycle != Offline }} {
		for _, i := range slices.Backward(e.instances) {
			if good(i) {
				return i
			}
		}
	}
	return nil
}

func (s *Service) askForLog(ctx context.Context, i *Instance, q LogQuery) (*http.Response, error) {
	address := i.BaseURL + "/agentfield/v1/logs"
	if query := q.values().Encode(); query != "" {
		address += "?" + query
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/x-ndjson")
	if s.o.InternalToken != "" {
		request.Header.Set("Authorization", "Bearer "+s.o.InternalToken)
	}
	return s.probes.Do(request)
}

// logLines is a log that is being read. Silence ends it.
type logLines struct {
	body   io.ReadCloser
	idle   *time.Timer
	cancel context.CancelFunc
}

func (l *logLines) Read(p []byte) (int, error) {
	l.idle.Reset(logIdleTimeout)
	return l.body.Read(p)
}

func (l *logLines) Close() error {
	l.idle.Stop()
	err := l.body.Close()
	l.cancel()
	return err
}
