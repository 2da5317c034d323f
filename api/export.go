package api

import (
	"bytes"
	"context"
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/models"
)

// form is how an export is written.
type form struct {
	name, contentType string
	begin             func(w *bytes.Buffer, list string, columns []string)
	row               func(w *bytes.Buffer, row line, first bool)
	end               func(w *bytes.Buffer, rows int, cutAt int64) // cutAt: when the last row was accepted, if there are older ones; else 0
}

// line is one row of a list in either form.
type line struct {
	cells  func() []string
	object func() []byte // JSON
	at     int64         // ms: when it was accepted
}

func csvForm() form {
	return form{
		name: "csv", contentType: "text/csv; charset=utf-8",
		begin: func(w *bytes.Buffer, _ string, columns []string) { writeCells(w, columns...) },
		row:   func(w *bytes.Buffer, row line, _ bool) { writeCells(w, row.cells()...) },
		end: func(w *bytes.Buffer, rows int, cutAt int64) {
			if cutAt > 0 {
				writeCells(w, "# cut after "+strconv.Itoa(rows)+" rows; go on with until="+formatMs(cutAt+1))
			}
		},
	}
}

func linesForm() form {
	return form{
		name: "ndjson", contentType: "application/x-ndjson",
		begin: func(*bytes.Buffer, string, []string) {},
		row: func(w *bytes.Buffer, row line, _ bool) {
			w.Write(row.object())
			w.WriteByte('\n')
		},
		end: func(w *bytes.Buffer, rows int, cutAt int64) {
			if cutAt > 0 {
				w.Write(cutNote(newObject(96), rows, cutAt).end())
				w.WriteByte('\n')
			}
		},
	}
}

func jsonForm() form {
	return form{
		name: "json", contentType: fiber.MIMEApplicationJSON,
		begin: func(w *bytes.Buffer, list string, _ []string) { w.WriteString(`{"` + list + `":[`) },
		row: func(w *bytes.Buffer, row line, first bool) {
			if !first {
				w.WriteByte(',')
			}
			w.Write(row.object())
		},
		end: func(w *bytes.Buffer, rows int, cutAt int64) {
			o := newObject(96)
			if cutAt > 0 {
				cutNote(o, rows, cutAt)
			} else {
				o.truth("truncated", false)
			}
			w.WriteString("],")
			w.Write(o.end()[1:])
		},
	}
}

func cutNote(o *object, rows int, cutAt int64) *object {
	o.truth("truncated", true)
	o.number("rows", int64(rows))
	o.instant("until", cutAt+1)
	return o
}

func columns() []string {
	return []string{
		"execution_id", "status", "target", "mode", "created_at", "started_at", "finished_at", "duration_ms", "attempt", "run_id", "workflow_id",
		"parent_execution_id", "session_id", "actor_id", "caller", "code", "error", "status_reason", "webhook_registered",
	}
}

func cells(e *models.Execution) []string {
	instant := func(ms *int64) string {
		if ms == nil {
			return ""
		}
		return formatMs(*ms)
	}
	took := ""
	if ms := e.DurationMs(); ms != nil {
		took = strconv.FormatInt(*ms, 10)
	}
	return []string{
		e.ID, string(e.Status), cell(e.Target()), e.Mode, formatMs(e.CreatedAt), instant(e.StartedAt), instant(e.FinishedAt), took, strconv.Itoa(e.Attempt),
		cell(e.RunID), cell(e.Workflow()), cell(text(e.ParentID)), cell(text(e.SessionID)), cell(text(e.ActorID)), cell(text(e.Caller)),
		cell(text(e.ErrorCode)), cell(text(e.ErrorMessage)), cell(text(e.StatusReason)), strconv.FormatBool(e.HasWebhook),
	}
}

// cell keeps a spreadsheet from running what somebody else wrote.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func writeCells(w *bytes.Buffer, row ...string) {
	out := csv.NewWriter(w)
	_ = out.Write(row) // a buffer takes everything
	out.Flush()
}

// exportExecutions streams exactly what a list shows on all of its pages. Of a person it is recorded who took what.
func (s *Server) exportExecutions(c *fiber.Ctx, f form) error {
	list, err := s.filterOf(c)
	if err != nil {
		return err
	}
	list.Limit = 0
	rows := s.Executions.Export(list, s.ExportLimit)
	return s.export(c, f, &exported{list: "executions", columns: columns(), cut: rows.Cut, next: func(ctx context.Context) ([]line, error) {
		page, err := rows.Next(ctx)
		return lines(page, func(e *models.Execution) line {
			return line{cells: func() []string { return cells(e) }, object: func() []byte { return summary(e) }, at: e.CreatedAt}
		}), err
	}})
}

func lines[T any](rows []T, of func(T) line) []line {
	out := make([]line, len(rows))
	for i, row := range rows {
		out[i] = of(row)
	}
	return out
}

// exportRuns is the same for the list of runs.
func (s *Server) exportRuns(c *fiber.Ctx, f form) error {
	list, err := s.runFilter(c)
	if err != nil {
		return err
	}
	rows := &turned[*models.Run]{left: s.ExportLimit, read: func(ctx context.Context, limit int, cursor string) ([]*models.Run, string, error) {
		list.Limit, list.Cursor = limit, cursor
		page, err := s.Workflows.List(ctx, list)
		return page.Rows, page.Next, err
	}}
	return s.export(c, f, &exported{list: "runs", columns: runColumns(), cut: rows.isCut, next: func(ctx context.Context) ([]line, error) {
		page, err := rows.next(ctx)
		return lines(page, func(r *models.Run) line {
			return line{cells: func() []string { return runCells(r) }, object: func() []byte { return runJSON(r, "") }, at: r.CreatedAt}
		}), err
	}})
}

// turned is a list of which one page after the other is read, up to a number of rows.
type turned[T any] struct {
	read       func(ctx context.Context, limit int, cursor string) (rows []T, next string, err error)
	left       int
	cursor     string
	ended, cut bool
}

// turnedAtOnce is how many rows of a list are read at once.
const turnedAtOnce = 200

// next are the rows of the next page, none after the last.
func (t *turned[T]) next(ctx context.Context) ([]T, error) {
	if t.ended {
		return nil, nil
	}
	rows, next, err := t.read(ctx, min(turnedAtOnce, t.left), t.cursor)
	if err != nil {
		return nil, err
	}
	t.left -= len(rows)
	t.cursor = next
	t.ended = next == "" || t.left == 0
	t.cut = t.ended && next != ""
	return rows, nil
}

// isCut reports whether there are older rows than the last.
func (t *turned[T]) isCut() bool { return t.cut }

func runColumns() []string {
	return []string{
		"run_id", "workflow_id", "status", "target", "root_execution_id", "created_at", "finished_at", "duration_ms", "total", "active", "waiting",
		"succeeded", "failed", "timeout", "cancelled", "session_id", "actor_id",
	}
}

func runCells(r *models.Run) []string {
	finished, took := "", ""
	if r.FinishedAt != nil {
		finished, took = formatMs(*r.FinishedAt), strconv.FormatInt(max(*r.FinishedAt-r.CreatedAt, 0), 10)
	}
	row := []string{cell(r.ID), cell(r.Workflow()), string(r.Status), cell(r.Target()), r.RootID, formatMs(r.CreatedAt), finished, took}
	for _, n := range []int{r.Total, r.Active(), r.Waiting, r.Succeeded, r.Failed, r.Timeout, r.Cancelled} {
		row = append(row, strconv.Itoa(n))
	}
	return append(row, cell(text(r.SessionID)), cell(text(r.ActorID)))
}

// exportWebhooks is the same for the list of webhook deliveries.
func (s *Server) exportWebhooks(c *fiber.Ctx, f form) error {
	list, err := s.webhookFilter(query(c))
	if err != nil {
		return err
	}
	rows := &turned[*models.WebhookDelivery]{left: s.ExportLimit, read: func(ctx context.Context, limit int, cursor string) ([]*models.WebhookDelivery, string, error) {
		list.Limit, list.Cursor = limit, cursor
		page, err := s.Webhooks.List(ctx, list)
		return page.Rows, page.Next, err
	}}
	return s.export(c, f, &exported{list: "webhooks", columns: webhookColumns(), cut: rows.isCut, next: func(ctx context.Context) ([]line, error) {
		page, err := rows.next(ctx)
		return lines(page, func(d *models.WebhookDelivery) line {
			return line{cells: func() []string { return webhookCells(d) }, object: func() []byte { return deliveryJSON(d).end() }, at: d.CreatedAt}
		}), err
	}})
}

func webhookColumns() []string {
	return []string{
		"webhook_id", "state", "event", "url", "execution_id", "endpoint_id", "attempt", "max_attempts", "last_status", "last_class", "last_error",
		"last_latency_ms", "next_attempt_at", "created_at", "delivered_at", "stopped_by",
	}
}

func webhookCells(d *models.WebhookDelivery) []string {
	status, took, next, delivered := "", "", "", ""
	if d.LastStatus != nil {
		status = strconv.Itoa(*d.LastStatus)
	}
	if d.LastLatencyMs != nil {
		took = strconv.FormatInt(*d.LastLatencyMs, 10)
	}
	if d.Status == webhook.Queued && !d.Held() {
		next = formatMs(d.AvailableAt)
	}
	if d.DeliveredAt != nil {
		delivered = formatMs(*d.DeliveredAt)
	}
	return []string{
		d.ID, d.State(), d.Event, cell(d.URL), d.ExecutionID, d.EndpointID, strconv.Itoa(d.Attempt), strconv.Itoa(d.MaxAttempts), status,
		text(d.LastClass), cell(text(d.LastError)), took, next, formatMs(d.CreatedAt), delivered, cell(text(d.StoppedBy)),
	}
}

// export answers with a list that is made while it is read, after the handler has returned.
func (s *Server) export(c *fiber.Ctx, f form, r *exported) error {
	r.ctx, r.form = context.WithoutCancel(c.UserContext()), f
	if err := r.fill(); err != nil {
		return err // while there is still an answer to give
	}
	now := s.Now()
	query := string(c.Request().URI().QueryString())
	if !wantsJSON(c) {
		if err := s.Audit.Record(c.UserContext(), audit.Entry{
			Origin: origin(c), At: now.UnixMilli(), Action: r.list + ".exported", ObjectKind: r.list, Object: f.name, After: map[string]string{"filter": query},
		}); err != nil {
			return err
		}
	}
	c.Set(fiber.HeaderContentType, f.contentType)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="`+exportName(r.list, c.Queries(), now)+"."+f.name+`"`)
	return c.SendStream(r)
}

// exportName says what is in the file and when it was made.
func exportName(list string, query map[string]string, now time.Time) string {
	words := []string{list}
	for _, key := range []string{"q", "status", "target", "node", "session", "actor", "run", "state", "class", "host", "event", "since"} {
		if query[key] != "" {
			words = append(words, query[key])
		}
	}
	plain := strings.Map(func(r rune) rune {
		if r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, strings.Join(words, "-"))
	plain = strings.Join(strings.FieldsFunc(plain, func(r rune) bool { return r == '-' }), "-")
	return plain[:min(len(plain), 80)] + "-" + now.UTC().Format("20060102-150405")
}

// exported is a list as a text that is made while it is read.
type exported struct {
	ctx     context.Context //nolint:containedctx // a reader has no other way to be told when to stop
	list    string          // its name, as in the answers of the API
	columns []string
	next    func(ctx context.Context) ([]line, error) // none at the end
	cut     func() bool                               // at the end: whether there are more
	form    form
	text    bytes.Buffer
	begun   bool
	count   int
	last    int64 // when the last row was accepted
	done    bool
}

func (e *exported) Read(p []byte) (int, error) {
	for e.text.Len() == 0 {
		if e.done {
			return 0, io.EOF
		}
		if err := e.fill(); err != nil {
			return 0, err // the connection is cut: half a file must not look like a whole one
		}
	}
	return e.text.Read(p)
}

func (e *exported) fill() error {
	rows, err := e.next(e.ctx)
	if err != nil {
		return err
	}
	if !e.begun {
		e.begun = true
		e.form.begin(&e.text, e.list, e.columns)
	}
	for _, row := range rows {
		e.form.row(&e.text, row, e.count == 0)
		e.count++
		e.last = row.at
	}
	if e.done = len(rows) == 0; !e.done {
		return nil
	}
	if !e.cut() {
		e.last = 0
	}
	e.form.end(&e.text, e.count, e.last)
	return nil
}
