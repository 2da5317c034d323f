// Package yardstick is what a control plane could at best be: a bare handler that makes one durable grouped insert, calls the agent,
// writes the result with the same grouping and answers. Its one invariant: it answers only what a committed row says, so the figures
// of the real thing may be compared with it.
package yardstick

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
)

// store commits many items in one transaction.
type store interface {
	commit(ctx context.Context, batch []*item) error
	close() error
}

// item is an input or, when finish is set, a result on its way into the store.
type item struct {
	id     int64
	body   []byte
	finish bool
	done   chan error
}

// batchLimit is how many items one commit takes at most.
const batchLimit = 256

// group collects what waits together and commits it together: no linger, one commit at a time for each writer.
type group struct {
	store store
	queue chan *item
}

func newGroup(ctx context.Context, s store, writers int) *group {
	g := &group{store: s, queue: make(chan *item, 4096)}
	for range writers {
		go g.write(ctx)
	}
	return g
}

func (g *group) write(ctx context.Context) {
	batch := make([]*item, 0, batchLimit)
	for {
		select {
		case first := <-g.queue:
			batch = append(batch[:0], first)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(batch) < batchLimit; {
			select {
			case next := <-g.queue:
				batch = append(batch, next)
			default:
				more = false
			}
		}
		err := g.store.commit(ctx, batch)
		for _, it := range batch {
			it.done <- err
		}
	}
}

func (g *group) put(id int64, body []byte, finish bool) error {
	it := &item{id: id, body: body, finish: finish, done: make(chan error, 1)}
	g.queue <- it
	return <-it.done
}

// Options say where the yardstick keeps its rows and whom it calls.
type Options struct {
	Dir         string // of the SQLite file
	DatabaseURL string // PostgreSQL instead
	AgentURL    string
}

// Serve runs the yardstick on a free loopback port until ctx ends, and says where it listens.
func Serve(ctx context.Context, options Options, out io.Writer) error {
	s, writers, err := openStore(ctx, options)
	if err != nil {
		return err
	}
	h := &handler{group: newGroup(ctx, s, writers), agent: options.AgentURL, client: agentClient()}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/execute", h.execute)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, s.close())
	}
	_, _ = fmt.Fprintf(out, "listening on http://%s\n", listener.Addr())
	stop := context.AfterFunc(ctx, func() { _ = app.ShutdownWithTimeout(time.Second) })
	defer stop()
	return errors.Join(app.Listener(listener), s.close())
}

func openStore(ctx context.Context, options Options) (store, int, error) {
	if options.DatabaseURL != "" {
		s, err := openPostgres(ctx, options.DatabaseURL)
		return s, 2, err
	}
	s, err := openSQLite(ctx, options.Dir)
	return s, 1, err
}

type handler struct {
	group  *group
	agent  string
	client *http.Client
	last   atomic.Int64
}

func (h *handler) execute(c *fiber.Ctx) error {
	began := time.Now()
	id, input := h.last.Add(1), bytes.Clone(c.Body())
	if err := h.group.put(id, input, false); err != nil {
		return err
	}
	result, err := h.call(id, input)
	if err != nil {
		return err
	}
	if err := h.group.put(id, result, true); err != nil {
		return err
	}
	answer := append(strconv.AppendInt([]byte(`{"execution_id":"exec_`), id, 10), `","status":"succeeded","result":`...)
	answer = append(append(answer, result...), `,"duration_ms":`...)
	answer = append(strconv.AppendInt(answer, time.Since(began).Milliseconds(), 10), '}')
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(answer)
}

func (h *handler) call(id int64, input []byte) ([]byte, error) {
	req, err := http.NewRequest(http.MethodPost, h.agent+"/reasoners/echo", bytes.NewReader(input)) //nolint:noctx // the bare minimum
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Execution-ID", strconv.FormatInt(id, 10))
	res, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	return io.ReadAll(io.LimitReader(res.Body, 16<<20))
}

func agentClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConns:        4096,
		MaxIdleConnsPerHost: 128,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}}
}
