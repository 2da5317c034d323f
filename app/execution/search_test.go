package execution_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/filter"
)

// searchable is a few executions that differ in everything that can be asked for. Their ids are put in words below.
func searchable(t *testing.T, db *database.DB) {
	t.Helper()
	register(t, db, "support-eu", 0)
	now := db.NowMs()
	for _, e := range []struct {
		id, node, function, status string
		session, actor, parent     any
		age, took                  int64 // ms
		message, code              any
		attempt                    int
		mode                       string
		hook                       bool
		rounds                     int
	}{
		{"exec_aa1", "support-eu", "greet", "succeeded", "s1", "ann", nil, 10_000, 500, nil, nil, 1, "sync", false, 0},
		{"exec_ab2", "support-eu", "resolve", "failed", "s1", nil, "exec_aa1", 9_000, 4_000, "No route to host (100% sure)", "agent_unreachable", 3, "async", true, 0},
		{"exec_bb3", "support-us", "greet", "timeout", "s_2", "ann", nil, 7_200_000, 90_000, "limit 90 s exceeded", "agent_timeout", 1, "async", false, 0},
		{"exec_bb4", "billing", "greet_all", "waiting", nil, nil, nil, 8_000, 0, nil, nil, 1, "async", false, 2},
		{"exec_cc5", "billing", "charge", "cancelled", "S1", "bob", nil, 500, 100, nil, nil, 1, "async", false, 0},
	} {
		created := now - e.age
		var finished any
		if e.took > 0 {
			finished = created + e.took
		}
		dbtest.Change(t, db, `INSERT INTO executions (id, run_id, session_id, actor_id, parent_id, node_id, function, function_kind, mode, status, available_at,
			attempt, failures, max_attempts, redeliveries, has_webhook, created_at, started_at, finished_at, error_message, error_code, input_bytes,
			result_bytes, holds, rounds) VALUES ($1, $2, $3, $4, $5, $6, $7, 'reasoner', $8, $9, $10, $11, 0, 3, 0, $12, $10, $10, $13, $14, $15, 0, 0, 0, $16)`,
			e.id, "run_"+e.id, e.session, e.actor, e.parent, e.node, e.function, e.mode, e.status, created, e.attempt, e.hook, finished, e.message, e.code, e.rounds)
	}
	dbtest.Change(t, db, `INSERT INTO runs (id, root_id, node_id, function, status, total, waiting, succeeded, failed, timeout, cancelled, roots, worst_root, created_at, finished_at)
		SELECT run_id, id, node_id, function, status, 1, CASE WHEN status = 'waiting' THEN 1 ELSE 0 END, CASE WHEN status = 'succeeded' THEN 1 ELSE 0 END,
			CASE WHEN status = 'failed' THEN 1 ELSE 0 END, CASE WHEN status = 'timeout' THEN 1 ELSE 0 END, CASE WHEN status = 'cancelled' THEN 1 ELSE 0 END,
			CASE WHEN parent_id IS NULL THEN 1 ELSE 0 END, 0, created_at, finished_at FROM executions WHERE true`)
	dbtest.Change(t, db, `UPDATE runs SET status = CASE WHEN roots = 0 THEN 'succeeded' ELSE status END, worst_root = timeout * 2 + cancelled WHERE true`)
	dbtest.Change(t, db, `INSERT INTO run_aliases (workflow_id, run_id) VALUES ('wf-billing', 'run_exec_bb4')`)
	dbtest.Change(t, db, `INSERT INTO events (execution_id, node_id, kind, attempt, at) VALUES ('exec_aa1', 'support-eu', 'execution.note', 1, $1)`, now)
}

func (r *rig) search(t *testing.T, text string) []string {
	t.Helper()
	query, problems := filter.Executions().Parse(text)
	if len(problems) > 0 {
		t.Fatalf("%q: %v", text, problems)
	}
	page, err := r.List(t.Context(), execution.Filter{Query: query})
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	found := []string{}
	for _, row := range page.Rows {
		found = append(found, strings.TrimPrefix(row.ID, "exec_"))
	}
	slices.Sort(found)
	return found
}

func TestFiltersFindWhatTheySay(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, _ *clock) {
		r := newRig(t, db, echo)
		searchable(t, db)
		for text, want := range map[string]string{
			"":                       "aa1 ab2 bb3 bb4 cc5",
			"status:failed,timeout":  "ab2 bb3",
			"-status:failed,timeout": "aa1 bb4 cc5",
			"-status:pending,queued,running,waiting,paused,succeeded,failed,timeout,cancelled": "",
			"status:completed":                "aa1",
			"node:support-*":                  "aa1 ab2 bb3",
			"-node:support-*":                 "bb4 cc5",
			"node:billing,support-us":         "bb3 bb4 cc5",
			"function:greet":                  "aa1 bb3",
			"reasoner:greet*":                 "aa1 bb3 bb4",
			"target:support-eu.greet":         "aa1",
			"target:billing.*":                "bb4 cc5",
			"target:charge,support-us":        "bb3 cc5",
			"-target:greet":                   "ab2 bb4 cc5",
			"session:s1":                      "aa1 ab2",
			"-session:s1":                     "bb3 bb4 cc5",
			"session:*":                       "aa1 ab2 bb3 cc5",
			"-session:*":                      "bb4",
			"session:s_*":                     "bb3",
			"actor:ann -session:s1":           "bb3",
			"parent:exec_aa1":                 "ab2",
			"run:wf-billing,run_exec_aa1":     "aa1 bb4",
			"run:run_exec_b*":                 "bb3 bb4",
			"mode:sync":                       "aa1",
			`error:"no ROUTE"`:                "ab2",
			"error:100%":                      "ab2",
			"error:%":                         "ab2",
			"error:limit*":                    "bb3",
			"error:*":                         "ab2 bb3",
			"-error:*":                        "aa1 bb4 cc5",
			"-error:route":                    "aa1 bb3 bb4 cc5",
			"code:agent_*":                    "ab2 bb3",
			"code:agent_timeout":              "bb3",
			"dur:>1s":                         "ab2 bb3 bb4",
			"dur:<=500ms":                     "aa1 cc5",
			"age:<1m":                         "aa1 ab2 bb4 cc5",
			"age:>1h":                         "bb3",
			"-age:<1m":                        "bb3",
			"started:>2020-01-01":             "aa1 ab2 bb3 bb4 cc5",
			"started:<2020-01-01":             "",
			"attempt:>1":                      "ab2",
			"attempt:1,3":                     "aa1 ab2 bb3 bb4 cc5",
			"has:webhook":                     "ab2",
			"has:approval,note":               "aa1 bb4",
			"-has:error":                      "aa1 bb4 cc5",
			"has:parent":                      "ab2",
			"exec_a":                          "aa1 ab2",
			"bb":                              "bb3 bb4",
			"id:exec_aa1,exec_cc5":            "aa1 cc5",
			"exec_aa1 exec_cc5":               "aa1 cc5",
			"GREET":                           "aa1 bb3 bb4",
			"upport-eu.gre":                   "aa1",
			"-billing":                        "aa1 ab2 bb3",
			`"it's; DROP TABLE executions--"`: "",
			"status:failed node:billing":      "",
			"actor:ann,bob status:cancelled":  "cc5",
		} {
			if got := strings.Join(r.search(t, text), " "); got != want {
				t.Errorf("%q found %q, not %q", text, got, want)
			}
		}
	})
}

func TestAFilteredListPagesToItsEnd(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, _ *clock) {
		r := newRig(t, db, echo)
		searchable(t, db)
		query, _ := filter.Executions().Parse("-status:cancelled")
		var seen []string
		for cursor := ""; ; {
			page, err := r.List(t.Context(), execution.Filter{Query: query, Limit: 1, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range page.Rows {
				seen = append(seen, row.ID)
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if want := []string{"exec_bb4", "exec_ab2", "exec_aa1", "exec_bb3"}; !slices.Equal(seen, want) {
			t.Errorf("page by page: %v, not %v", seen, want)
		}
	})
}

func TestSuggestionsBeginAsTyped(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, _ *clock) {
		r := newRig(t, db, echo)
		searchable(t, db)
		dbtest.Change(t, db, `INSERT INTO nodes (id, team_id, group_id, version, deployment, registration, registered_at, updated_at)
			VALUES ('support-us', '', '', '', 'long_running', '{}', 1, 1) ON CONFLICT DO NOTHING`)
		dbtest.Change(t, db, `INSERT INTO functions (node_id, name, kind, description, tags, position) VALUES ('support-us', 'greet', 'reasoner', '', '[]', 0)`)
		for _, c := range []struct{ key, prefix, want string }{
			{"session", "", "S1 s1 s_2"},
			{"session", "s", "s1 s_2"},
			{"actor", "a", "ann"},
			{"id", "exec_a", "exec_aa1 exec_ab2"},
			{"run", "run_exec_c", "run_exec_cc5"},
			{"node", "support-u", "support-us"},
			{"reasoner", "gr", "greet"},
			{"target", "support-us.", "support-us.greet"},
			{"dur", "", ""},
		} {
			found, err := r.Suggest(t.Context(), c.key, c.prefix)
			if err != nil || strings.Join(found, " ") != c.want {
				t.Errorf("%s:%s suggests %v (%v), not %s", c.key, c.prefix, found, err, c.want)
			}
		}
	})
}
