package conformance

import (
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
)

func registerAndDiscover(t *Trial) {
	a := t.Instance("")
	answer := t.Do(http.MethodPost, "/api/v1/nodes/register", a.Registration())
	t.Status(answer, http.StatusCreated)
	t.Is(answer, "success", true)
	t.Is(answer, "node_id", a.ID)
	found := t.Do(http.MethodGet, "/api/v1/discovery/capabilities?agent="+a.ID+"&include_input_schema=true", nil)
	t.Status(found, http.StatusOK)
	t.Has(found, "discovered_at", "total_agents", "total_reasoners", "total_skills", "pagination.limit", "pagination.has_more")
	t.Is(found, "total_agents", 1)
	t.Is(found, "total_skills", 1)
	t.Is(found, "capabilities.0.agent_id", a.ID)
	t.Is(found, "capabilities.0.base_url", a.URL)
	t.Is(found, "capabilities.0.skills.0.invocation_target", a.ID+":skill:tool")
	t.Is(found, "capabilities.0.reasoners.0.invocation_target", a.ID+":greet")
	narrowed := t.Do(http.MethodGet, "/api/v1/discovery/capabilities?agent="+a.ID+"&reasoner=str*&include_input_schema=1", nil)
	t.Is(narrowed, "total_reasoners", 1)
	t.Is(narrowed, "capabilities.0.reasoners.0.input_schema.required.0", "message")
	bad := t.Do(http.MethodGet, "/api/v1/discovery/capabilities?limit=many", nil)
	t.Status(bad, http.StatusBadRequest)
	t.Is(bad, "error", "invalid_parameter")
}

func nodeLifecycle(t *Trial) {
	a := t.Instance("")
	answer := t.Do(http.MethodPost, "/api/v1/nodes", a.Registration()) // the other path
	t.Status(answer, http.StatusCreated)
	path := "/api/v1/nodes/" + a.ID
	beat := t.Do(http.MethodPost, path+"/heartbeat", nil)
	t.Status(beat, http.StatusOK)
	t.Is(beat, "success", true)
	lease := t.Do(http.MethodPatch, path+"/status", fields{"phase": "ready"})
	t.Status(lease, http.StatusOK)
	t.Is(lease, "lease_seconds", 300)
	t.Has(lease, "next_lease_renewal")
	t.Status(t.Do(http.MethodPatch, path+"/status", fields{"phase": "sleepy"}), http.StatusBadRequest)
	node := t.Do(http.MethodGet, path, nil)
	t.Is(node, "id", a.ID)
	t.Is(node, "lifecycle_status", "ready")
	t.Is(node, "base_url", a.URL)
	t.Has(node, "reasoners.0.id", "skills.0.id", "instances.0", "registered_at", "last_heartbeat")
	goodbye := t.Do(http.MethodPost, path+"/shutdown", fields{"reason": "shutdown"})
	t.Status(goodbye, http.StatusAccepted)
	t.Is(t.Do(http.MethodGet, path, nil), "lifecycle_status", "offline")
	for _, request := range [][2]string{
		{http.MethodGet, ""}, {http.MethodPost, "/heartbeat"}, {http.MethodPost, "/shutdown"},
	} {
		t.Status(t.Do(request[0], "/api/v1/nodes/nobody-"+a.ID+request[1], nil), http.StatusNotFound)
	}
}

// instances registers n copies of one node.
func (t *Trial) instances(n int) []*fake.Agent {
	copies := make([]*fake.Agent, n)
	id := ""
	for i := range copies {
		copies[i] = t.Instance(id)
		id = copies[i].ID
		t.Register(copies[i], fields{"instance_id": copies[i].URL})
	}
	return copies
}

func spreadOverInstances(t *Trial) {
	copies := t.instances(3)
	t.Pool(12, 300, func(int) {
		t.Status(t.Execute(call(copies[0], "sleep", fields{"ms": 5})), http.StatusOK)
	})
	for i, a := range copies {
		n := len(a.Arrivals(""))
		t.True(n >= 80 && n <= 120, "100±20 calls at instance %d, got %d", i+1, n)
	}
	t.Notef("%d/%d/%d", len(copies[0].Arrivals("")), len(copies[1].Arrivals("")), len(copies[2].Arrivals("")))
	copies[1].Close()
	broken := t.untilSteady(copies[0])
	var failures atomic.Int32
	t.Pool(12, 100, func(int) {
		if answer := t.Execute(call(copies[0], "echo", fields{})); answer.Text("status") != "succeeded" {
			failures.Add(1)
		}
	})
	t.True(failures.Load() == 0, "0 failures after the dead instance is taken out, got %d of 100", failures.Load())
	t.Notef("%d failed before it was out", broken)
}

// untilSteady calls until twenty calls in a row succeeded, and returns how many did not.
func (t *Trial) untilSteady(a *fake.Agent) int {
	broken := 0
	for row := 0; row < 20; row++ {
		if t.Execute(call(a, "echo", fields{})).Text("status") != "succeeded" {
			broken++
			row = 0
		}
	}
	return broken
}

func hundredInstances(t *Trial) {
	copies := t.instances(100)
	t.Pool(50, 400, func(int) {
		t.Status(t.Execute(call(copies[0], "sleep", fields{"ms": 20})), http.StatusOK)
	})
	unused := 0
	for _, a := range copies {
		if len(a.Arrivals("")) == 0 {
			unused++
		}
	}
	t.True(unused == 0, "all 100 instances to be used, %d were not", unused)
	node := t.Do(http.MethodGet, "/api/v1/nodes/"+copies[0].ID, nil)
	t.True(len(node.List("instances")) == 100, "100 instances in the node, got %d", len(node.List("instances")))
}

func silentAgentStaysUsable(t *Trial) {
	a := t.Agent()
	t.Pause(1500 * time.Millisecond)
	t.Status(t.Execute(call(a, "echo", fields{})), http.StatusOK)
}

func standardOperations(t *Trial) {
	for _, path := range []string{"/livez", "/readyz", "/healthz", "/health", "/api/v1/health"} {
		t.Status(t.Do(http.MethodGet, path, nil), http.StatusOK)
	}
	health := t.Do(http.MethodGet, "/health", nil)
	t.Is(health, "status", "healthy")
	t.Has(health, "timestamp", "version", "checks.storage.status")
	metrics := t.Do(http.MethodGet, "/metrics", nil)
	t.Status(metrics, http.StatusOK)
	t.True(strings.Contains(string(metrics.Body), "# TYPE agentfield_"), "Prometheus text with agentfield_ metrics")
}

func poolSizeIsVisible(t *Trial) {
	t.Own(workers + "37")
	metrics := t.Do(http.MethodGet, "/metrics", nil)
	found := false
	for line := range strings.Lines(string(metrics.Body)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		found = found || strings.Contains(name, "workers") && value == "37"
	}
	t.True(found, "a metric of the pool size with the configured 37")
}

func badRegistrations(t *Trial) {
	a := t.Instance("")
	for name, change := range map[string]fields{
		"no id":             {"id": ""},
		"id with a dot":     {"id": "a.b"},
		"id too long":       {"id": strings.Repeat("x", 300)},
		"id with NUL":       {"id": "a\x00b"},
		"id is a number":    {"id": 5},
		"other scheme":      {"base_url": "ftp://127.0.0.1/"},
		"no host":           {"base_url": "http://"},
		"userinfo":          {"base_url": "http://u:p@127.0.0.1:1"},
		"metadata address":  {"base_url": "http://169.254.169.254"},
		"link-local":        {"base_url": "http://[fe80::1]:80"},
		"bad schema":        {"reasoners": []any{fields{"id": "f", "input_schema": fields{"type": "nonsense"}}}},
		"remote schema":     {"reasoners": []any{fields{"id": "f", "input_schema": fields{"$ref": "http://127.0.0.1:1/s.json"}}}},
		"reasoners as text": {"reasoners": "greet"},
	} {
		body := a.Registration()
		maps.Copy(body, change)
		answer := t.Do(http.MethodPost, "/api/v1/nodes/register", body)
		if answer.Status != http.StatusBadRequest {
			t.Failf("%s: expected 400, got %s", name, answer)
		}
		t.Has(answer, "error")
	}
	t.Status(t.Do(http.MethodPost, "/api/v1/nodes/register", `{"id":`), http.StatusBadRequest)
	t.Status(t.Do(http.MethodGet, "/api/v1/nodes/"+a.ID, nil), http.StatusNotFound)
}
