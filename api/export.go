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
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// form is how an export is written.
type form struct {
	name, contentType string
	begin             func(w *bytes.Buffer)
	row               func(w *bytes.Buffer, row *models.Execution, first bool)
	end               func(w *bytes.Buffer, rows int, cutAt int64) // cutAt: when the last row was accepted, if there are older ones; else 0
}

func csvForm() form {
	return form{
		name: "csv", contentType: "text/csv; charset=utf-8",
		begin: func(w *bytes.Buffer) { writeCells(w, columns()...) },
		row:   func(w *bytes.Buffer, row *models.Execution, _ bool) { writeCells(w, cells(row)...) },
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
		begin: func(*bytes.Buffer) {},
		row: func(w *bytes.Buffer, row *models.Execution, _ bool) {
			w.Write(summary(row))
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
		begin: func(w *bytes.Buffer) { w.WriteString(`{"executions":[`) },
		row: func(w *bytes.Buffer, row *models.Execution, first bool) {
			if !first {
				w.WriteByte(',')
			}
			w.Write(summary(row))
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
	r := &exported{ctx: context.WithoutCancel(c.UserContext()), rows: s.Executions.Export(list, s.ExportLimit), form: f} // it is read after the handler has returned
	if err := r.fill(); err != nil {
		return err // while there is still an answer to give
	}
	now := s.Now()
	query := string(c.Request().URI().QueryString())
	if !wantsJSON(c) {
		if err := s.Audit.Record(c.UserContext(), audit.Entry{
			Origin: origin(c), At: now.UnixMilli(), Action: "executions.exported", ObjectKind: "executions", Object: f.name, After: map[string]string{"filter": query},
		}); err != nil {
			return err
		}
	}
	c.Set(fiber.HeaderContentType, f.contentType)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="`+exportName("executions", c.Queries(), now)+"."+f.name+`"`)
	return c.SendStream(r)
}

// exportName says what is in the file and when it was made.
func exportName(list string, query map[string]string, now time.Time) string {
	words := []string{list}
	for _, key := range []string{"q", "status", "target", "node", "session", "actor", "run", "since"} {
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
	ctx   context.Context //nolint:containedctx // a reader has no other way to be told when to stop
	rows  *execution.Export
	form  form
	text  bytes.Buffer
	begun bool
	count int
	last  int64 // when the last row was accepted
	done  bool
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
	rows, err := e.rows.Next(e.ctx)
	if err != nil {
		return err
	}
	if !e.begun {
		e.begun = true
		e.form.begin(&e.text)
	}
	for _, row := range rows {
		e.form.row(&e.text, row, e.count == 0)
		e.count++
		e.last = row.CreatedAt
	}
	if e.done = len(rows) == 0; !e.done {
		return nil
	}
	if !e.rows.Cut() {
		e.last = 0
	}
	e.form.end(&e.text, e.count, e.last)
	return nil
}
