package history_test

import (
	"testing"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/history"
)

var end = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func good() history.Execution {
	return history.Execution{
		Key: "key-1", IDs: []string{"exec_1"}, Found: true, Status: "succeeded", EndedAt: end, Terminals: 1, Calls: 2, Runs: 1, HasWebhook: true,
		Deliveries: []history.Delivery{
			{ID: "wh_1", Event: "execution.completed", Status: "succeeded", At: end.Add(time.Millisecond)},
			{ID: "wh_1", Event: "execution.completed", Status: "succeeded", At: end.Add(time.Second)},
		},
	}
}

func TestGoodHistoriesAreGood(t *testing.T) {
	failed := good()
	failed.Status = "timeout"
	failed.Deliveries = []history.Delivery{{ID: "wh_2", Event: "execution.failed", Status: "timeout", At: end}}
	failed.Calls = 0
	silent := good()
	silent.HasWebhook, silent.Deliveries = false, nil
	if v := history.Judge([]history.Execution{good(), failed, silent}); !v.Good() || v.Executions != 3 {
		t.Errorf("got %+v", v)
	}
}

func TestEveryDefectIsCounted(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*history.Execution)
		count func(history.Verdict) int
	}{
		"lost":              {func(e *history.Execution) { e.Found = false }, func(v history.Verdict) int { return v.Lost }},
		"stuck":             {func(e *history.Execution) { e.Status = "running" }, func(v history.Verdict) int { return v.Stuck }},
		"doubled":           {func(e *history.Execution) { e.IDs = append(e.IDs, "exec_2") }, func(v history.Verdict) int { return v.Doubled }},
		"two ends":          {func(e *history.Execution) { e.Terminals = 2 }, func(v history.Verdict) int { return v.DoubleTerminal }},
		"no end on record":  {func(e *history.Execution) { e.Terminals = 0 }, func(v history.Verdict) int { return v.DoubleTerminal }},
		"never called":      {func(e *history.Execution) { e.Calls = 0 }, func(v history.Verdict) int { return v.NeverCalled }},
		"webhook missing":   {func(e *history.Execution) { e.Deliveries = nil }, func(v history.Verdict) int { return v.MissingWebhooks }},
		"webhook lies":      {func(e *history.Execution) { e.Deliveries[1].Status = "failed" }, func(v history.Verdict) int { return v.FalseWebhooks }},
		"event lies":        {func(e *history.Execution) { e.Deliveries[0].Event = "execution.failed" }, func(v history.Verdict) int { return v.FalseWebhooks }},
		"webhook too early": {func(e *history.Execution) { e.Deliveries[0].At = end.Add(-time.Millisecond) }, func(v history.Verdict) int { return v.EarlyWebhooks }},
		"another id":        {func(e *history.Execution) { e.Deliveries[1].ID = "wh_9" }, func(v history.Verdict) int { return v.ForeignIDs }},
	} {
		e := good()
		c.spoil(&e)
		v := history.Judge([]history.Execution{good(), e})
		if c.count(v) != 1 || v.Good() || len(v.Problems) != 1 {
			t.Errorf("%s: got %+v", name, v)
		}
	}
}
