package workflow

import (
	"strings"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/models"
)

// searched narrows a list of runs by what somebody typed. It reads the totals only.
func (s *Service) searched(q *gorm.DB, query filter.Query) *gorm.DB {
	for _, t := range query.Terms {
		c := s.condition(t)
		q = q.Where(c.SQL, c.Args...)
	}
	return q
}

func (s *Service) condition(t filter.Term) filter.Condition {
	switch t.Key {
	case "status":
		return statusTerm(t)
	case "target":
		return t.Any(filter.Target)
	case "reasoner":
		return t.Any(func(v filter.Value) filter.Condition { return filter.Begins("function", v) })
	case "dur":
		return t.Any(func(v filter.Value) filter.Condition {
			c := filter.Compare("coalesce(finished_at, ?) - created_at", v)
			return filter.Condition{SQL: c.SQL, Args: append([]any{s.DB.NowMs()}, c.Args...)}
		})
	case "age":
		return t.Any(func(v filter.Value) filter.Condition {
			turned := map[filter.Op]filter.Op{filter.Over: filter.Under, filter.AtLeast: filter.AtMost, filter.Under: filter.Over, filter.AtMost: filter.AtLeast}
			return filter.Compare("created_at", filter.Value{Op: turned[v.Op], N: s.DB.NowMs() - v.N})
		})
	case "run":
		return t.Any(named)
	case "node", "session", "actor":
		return t.Among(map[string]string{"node": "node_id", "session": "session_id", "actor": "actor_id"}[t.Key])
	case "started", "steps", "failed", "waiting":
		column := map[string]string{"started": "created_at", "steps": "total", "failed": "failed", "waiting": "waiting"}[t.Key]
		return t.Any(func(v filter.Value) filter.Condition { return filter.Compare(column, v) })
	}
	return t.Any(word)
}

// word: the beginning of our id of a run, the name its callers gave it, or a part of its target.
func word(v filter.Value) filter.Condition {
	if strings.HasPrefix(v.Text, "run_") {
		return named(filter.Value{Text: v.Text, Prefix: true})
	}
	return filter.Either(named(v), filter.Holds("node_id || '.' || function", v.Text))
}

// named: our id of a run, or the name its callers gave it.
func named(v filter.Value) filter.Condition {
	if v.Prefix {
		return filter.Either(
			filter.Condition{SQL: "(id >= ? AND id < ?)", Args: []any{v.Text, v.Text + "\U0010FFFF"}}, filter.Begins("workflow_id", v),
		)
	}
	return filter.Condition{SQL: "id IN (SELECT ? UNION SELECT run_id FROM run_aliases WHERE workflow_id = ?)", Args: []any{v.Text, v.Text}}
}

func statusTerm(t filter.Term) filter.Condition {
	statuses := make([]models.Status, len(t.Values))
	for i, v := range t.Values {
		statuses[i] = models.Status(v.Text)
	}
	return filter.Condition{SQL: statusClause(statuses)}.Unless(t.Not)
}
