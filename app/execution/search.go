package execution

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/models"
)

// ErrTooBroad ends a search that has looked through more than it may.
var ErrTooBroad = errors.New("the search took too long: narrow it by status, node, session or time")

// searched narrows a list by what somebody typed.
func (s *Service) searched(ctx context.Context, q *gorm.DB, query filter.Query) (*gorm.DB, error) {
	for _, t := range query.Terms {
		c, err := s.condition(ctx, t)
		if err != nil {
			return nil, err
		}
		q = q.Where(c.SQL, c.Args...)
	}
	return q, nil
}

// condition is one term as SQL. Where a partial index can serve it, the condition of that index stands beside it.
func (s *Service) condition(ctx context.Context, t filter.Term) (filter.Condition, error) {
	switch t.Key {
	case "":
		return t.Any(word), nil
	case "status":
		return statusTerm(t), nil
	case "target":
		return t.Any(filter.Target), nil
	case "reasoner":
		return t.Any(func(v filter.Value) filter.Condition { return filter.Begins("function", v) }), nil
	case "mode":
		return t.Among("mode"), nil
	case "error":
		return failing(t, failedWith), nil
	case "code":
		return failing(t, func(v filter.Value) filter.Condition { return filter.Begins("error_code", v) }), nil
	case "dur":
		return t.Any(func(v filter.Value) filter.Condition {
			c := filter.Compare("coalesce(finished_at, ?) - coalesce(started_at, created_at)", v)
			return filter.Condition{SQL: c.SQL, Args: append([]any{s.DB.NowMs()}, c.Args...)}
		}), nil
	case "age":
		return t.Any(s.old), nil
	case "started":
		return t.Any(func(v filter.Value) filter.Condition { return filter.Compare("started_at", v) }), nil
	case "attempt":
		return t.Any(func(v filter.Value) filter.Condition { return filter.Compare("attempt", v) }), nil
	case "has":
		return t.Any(has), nil
	case "run":
		return s.runTerm(ctx, t)
	}
	column, ok := map[string]string{
		"id": "id", "node": "node_id", "session": "session_id", "actor": "actor_id", "caller": "caller", "parent": "parent_id",
	}[t.Key]
	if !ok {
		return filter.Condition{}, fmt.Errorf("no list of executions knows the key %q", t.Key)
	}
	return t.Among(column), nil
}

// word: the beginning of an id, else a part of the target.
func word(v filter.Value) filter.Condition {
	id := func(begin string) filter.Condition {
		return filter.Condition{SQL: "(id >= ? AND id < ?)", Args: []any{begin, begin + "\U0010FFFF"}}
	}
	if strings.HasPrefix(v.Text, "exec_") {
		return id(v.Text)
	}
	anywhere := filter.Holds("node_id || '.' || function", v.Text)
	if v.Prefix {
		anywhere = filter.Begins("node_id || '.' || function", v)
	}
	if v.Text == "" {
		return anywhere
	}
	return filter.Either(id("exec_"+v.Text), anywhere)
}

func statusTerm(t filter.Term) filter.Condition {
	statuses := make([]models.Status, len(t.Values))
	for i, v := range t.Values {
		statuses[i] = models.Status(v.Text)
	}
	if !t.Not {
		return filter.Condition{SQL: statusClause(statuses)}
	}
	rest := make([]models.Status, 0, len(models.Statuses))
	for _, s := range models.Statuses {
		if !all(statuses, func(other models.Status) bool { return other != s }) {
			continue
		}
		rest = append(rest, s)
	}
	if len(rest) == 0 {
		return filter.Condition{SQL: "1 = 0"}
	}
	return filter.Condition{SQL: statusClause(rest)}
}

// failing is a condition that only executions with an error can meet.
func failing(t filter.Term, of func(filter.Value) filter.Condition) filter.Condition {
	c := filter.Term{Values: t.Values}.Any(of)
	if t.Not {
		return c.Unless(true)
	}
	c.SQL = "(" + c.SQL + ") AND " + unhappy
	return c
}

func failedWith(v filter.Value) filter.Condition {
	switch {
	case strings.HasPrefix(v.Text, "#fp_"):
		return filter.Condition{SQL: "error_group = ?", Args: []any{v.Text[1:]}}
	case v.Text == "":
		return filter.Condition{SQL: "error_message IS NOT NULL"}
	case v.Prefix:
		return filter.Begins("error_message", v)
	}
	return filter.Holds("error_message", v.Text)
}

// old turns an age into an instant, so that the index of creation serves it.
func (s *Service) old(v filter.Value) filter.Condition {
	turned := map[filter.Op]filter.Op{filter.Over: filter.Under, filter.AtLeast: filter.AtMost, filter.Under: filter.Over, filter.AtMost: filter.AtLeast}
	return filter.Compare("created_at", filter.Value{Op: turned[v.Op], N: s.DB.NowMs() - v.N})
}

func has(v filter.Value) filter.Condition {
	switch v.Text {
	case "webhook":
		return filter.Condition{SQL: "has_webhook"}
	case "approval":
		return filter.Condition{SQL: "rounds > 0"}
	case "error":
		return filter.Condition{SQL: "error_message IS NOT NULL"}
	case "parent":
		return filter.Condition{SQL: "parent_id IS NOT NULL"}
	}
	return filter.Condition{SQL: "EXISTS (SELECT 1 FROM events n WHERE n.execution_id = executions.id AND n.kind = 'execution.note')"}
}

// runTerm takes the caller's names of runs as well as ours.
func (s *Service) runTerm(ctx context.Context, t filter.Term) (filter.Condition, error) {
	resolved := filter.Term{Key: t.Key, Not: t.Not, Values: make([]filter.Value, len(t.Values))}
	copy(resolved.Values, t.Values)
	for i, v := range resolved.Values {
		if v.Prefix {
			continue
		}
		run, err := s.resolveRun(ctx, v.Text)
		if err != nil {
			return filter.Condition{}, err
		}
		resolved.Values[i].Text = orElse(run, v.Text)
	}
	return resolved.Among("run_id"), nil
}

const hints = 8

// Suggest lists values of a key that begin like this, for somebody who types a filter. Each costs a look into an index.
func (s *Service) Suggest(ctx context.Context, key, prefix string) ([]string, error) {
	table, column := "executions", ""
	switch key {
	case "node", "caller":
		table, column = "nodes", "id"
	case "session":
		column = "session_id"
	case "actor":
		column = "actor_id"
	case "parent":
		column = "parent_id"
	case "id":
		column = "id"
	case "run":
		column = "run_id"
	case "reasoner":
		return s.functions(ctx, "name", prefix)
	case "target":
		return s.functions(ctx, "node_id || '.' || name", prefix)
	default:
		return nil, nil
	}
	var found []string
	query := "SELECT min(" + column + ") FROM " + table + " WHERE " + column + " >= $1 AND " + column + " > $2 AND " + column + " < $3"
	last := ""
	for len(found) < hints {
		var next *string
		if err := s.DB.QueryRow(ctx, query, []any{prefix, last, prefix + "\U0010FFFF"}, &next); err != nil {
			return nil, fmt.Errorf("look for values of %s: %w", key, err)
		}
		if next == nil {
			break
		}
		found, last = append(found, *next), *next
	}
	return found, nil
}

func (s *Service) functions(ctx context.Context, expr, prefix string) ([]string, error) {
	rows, err := s.DB.Query(ctx, "SELECT DISTINCT "+expr+" FROM functions WHERE substr("+expr+", 1, length($1)) = $1 ORDER BY 1 LIMIT $2", prefix, hints)
	if err != nil {
		return nil, fmt.Errorf("look for functions: %w", err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, fmt.Errorf("look for functions: %w", err)
		}
		found = append(found, one)
	}
	return found, rows.Err()
}

// broad tells a search that ran out of its time from one that failed.
func broad(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrTooBroad
	}
	return err
}
