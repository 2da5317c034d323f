package agentlog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Query says which entries of an execution are wanted: the newest Limit of those that fit.
type Query struct {
	Limit   int      // 0: MaxTail
	After   int64    // seq
	Levels  []string // any of these; empty: all
	Nodes   []string
	Sources []string
	Q       string // somewhere in the message, whatever the case
}

// Read lists entries of an execution in their order.
func (s *Service) Read(ctx context.Context, executionID string, q Query) ([]models.ExecutionLog, error) {
	if q.Limit <= 0 || q.Limit > MaxTail {
		q.Limit = MaxTail
	}
	where, args := q.where(executionID, s.DB.Postgres())
	rows, err := s.DB.Query(ctx, `SELECT id, seq, node_id, level, source, message, more, at, recorded_at FROM execution_logs WHERE `+where+
		fmt.Sprintf(" ORDER BY seq DESC, id DESC LIMIT %d", q.Limit), args...)
	if err != nil {
		return nil, fmt.Errorf("read the log of %s: %w", executionID, err)
	}
	defer rows.Close()
	var entries []models.ExecutionLog
	for rows.Next() {
		e := models.ExecutionLog{ExecutionID: executionID}
		if err := rows.Scan(&e.ID, &e.Seq, &e.NodeID, &e.Level, &e.Source, &e.Message, &e.More, &e.At, &e.RecordedAt); err != nil {
			return nil, fmt.Errorf("read a log entry: %w", err)
		}
		entries = append(entries, e)
	}
	slices.Reverse(entries)
	return entries, rows.Err()
}

func (q Query) where(executionID string, postgres bool) (string, []any) {
	args := []any{executionID, q.After}
	conditions := []string{"execution_id = $1", "seq > $2"}
	for _, one := range []struct {
		column string
		values []string
	}{{"level", q.Levels}, {"node_id", q.Nodes}, {"source", q.Sources}} {
		if len(one.values) == 0 {
			continue
		}
		places := make([]string, len(one.values))
		for i, v := range one.values {
			args = append(args, v)
			places[i] = fmt.Sprintf("$%d", len(args))
		}
		conditions = append(conditions, one.column+" IN ("+strings.Join(places, ", ")+")")
	}
	if q.Q != "" {
		args = append(args, strings.ToLower(q.Q))
		position := "instr"
		if postgres {
			position = "strpos"
		}
		conditions = append(conditions, fmt.Sprintf("%s(lower(message), $%d) > 0", position, len(args)))
	}
	return strings.Join(conditions, " AND "), args
}

// Count is how many entries an execution has, and how many of each level.
func (s *Service) Count(ctx context.Context, executionID string) (total int, byLevel map[string]int, err error) {
	rows, err := s.DB.Query(ctx, "SELECT level, count(*) FROM execution_logs WHERE execution_id = $1 GROUP BY level", executionID)
	if err != nil {
		return 0, nil, fmt.Errorf("count the log of %s: %w", executionID, err)
	}
	defer rows.Close()
	byLevel = map[string]int{}
	for rows.Next() {
		var level string
		var n int
		if err := rows.Scan(&level, &n); err != nil {
			return 0, nil, fmt.Errorf("count the log of %s: %w", executionID, err)
		}
		byLevel[level] = n
		total += n
	}
	return total, byLevel, rows.Err()
}

type counted struct {
	id    string
	count int
}

// countByID counts rows of one id, in one order for everybody: who takes rows in another would wait for each other in a circle.
func countByID(rows database.Rows) ([]counted, error) {
	defer rows.Close()
	counts := map[string]int{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		counts[id]++
	}
	list := make([]counted, 0, len(counts))
	for id, n := range counts {
		list = append(list, counted{id, n})
	}
	slices.SortFunc(list, func(a, b counted) int { return cmp.Compare(a.id, b.id) })
	return list, rows.Err()
}
