package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRegistrationsOfPublishedAgentsAreUnderstood(t *testing.T) {
	bodies := map[string]string{
		"python": `{"id":"py","team_id":"default","base_url":"http://10.0.0.1:8001","version":"1.0.0","vc_enabled":true,
			"reasoners":[{"id":"think","input_schema":{"type":"object","properties":{"q":{"type":"string"}},"required":["q"]},
				"output_schema":{"type":"object"},"memory_config":{"auto_inject":["gw"],"memory_retention":"task","cache_results":true},
				"return_type_hint":"dict","tags":["a"],"accepts_webhook":"warn","triggers":[{"source":"stripe"}]}],
			"skills":[{"id":"search","input_schema":{},"tags":[]}],
			"communication_config":{"protocols":["http"],"websocket_endpoint":"","heartbeat_interval":"5s"},
			"health_status":"healthy","last_heartbeat":"2026-01-01T00:00:00Z","registered_at":"2026-01-01T00:00:00Z",
			"features":{"ab_testing":false},"metadata":{"deployment":{"environment":"dev","tags":{}},"custom":{"descriptions":{"think":"Thinks."}}},
			"callback_discovery":{"mode":"explicit","preferred":"http://10.0.0.1:8001"}}`,
		"typescript": `{"id":"ts","version":"","base_url":"http://ts:8001","public_url":"http://ts:8001","tags":["x"],"deployment_type":"long_running",
			"reasoners":[{"id":"think","accepts_webhook":true}],"skills":[]}`,
		"go": `{"id":"go","group_id":"go","team_id":"t","base_url":"http://go:8001/","version":"v1","health_status":"healthy","lifecycle_status":"ready",
			"communication_config":{"protocols":["http"],"heartbeat_interval":"2m0s"},"invocation_url":null,
			"reasoners":[{"id":"think","input_schema":null,"tags":null,"proposed_tags":["p"]}],"skills":null,
			"metadata":{"custom":null,"sdk":{"language":"go"},"tags":null},"features":null,"proposed_tags":null}`,
		"bare": `{"id":"bare","base_url":"HTTP://[::1]:9000"}`,
	}
	each(t, func(t *testing.T, r *rig) {
		for name, body := range bodies {
			if done := r.register(body); !done.Success || done.InstanceID == "" || done.NodeToken == "" {
				t.Errorf("%s: answered %+v", name, done)
			}
		}
		py := r.get("py")
		think := py.Reasoners[0]
		if think.Description != "Thinks." || think.AcceptsWebhook != "warn" || !reflect.DeepEqual(think.ProposedTags, []string{"a"}) {
			t.Errorf("the reasoner lost something: %+v", think)
		}
		if !strings.Contains(string(think.MemoryConfig), "auto_inject") || !strings.Contains(string(py.CommunicationConfig), `"5s"`) {
			t.Errorf("raw parts are gone: %s %s", think.MemoryConfig, py.CommunicationConfig)
		}
		if ts := r.get("ts"); ts.Reasoners[0].AcceptsWebhook != "true" || ts.TrafficWeight != 100 || ts.LifecycleStatus != Starting {
			t.Errorf("typescript: %+v", ts)
		}
		g := r.get("go")
		if g.BaseURL != "http://go:8001" || g.LifecycleStatus != Ready || g.HealthStatus != Unknown || g.Reasoners[0].Tags[0] != "p" || g.Skills == nil {
			t.Errorf("go: %+v", g)
		}
		if bare := r.get("bare"); bare.BaseURL != "http://[::1]:9000" || bare.GroupID != "bare" {
			t.Errorf("bare: %+v", bare)
		}
	})
}

func TestInvalidRegistrationsAreNamedAndLeaveNothing(t *testing.T) {
	long := strings.Repeat("x", 256)
	many := strings.TrimSuffix(strings.Repeat(`{"id":"f"},`, 1001), ",")
	cases := []struct{ body, field, says string }{
		{`{"base_url":"http://a"}`, "id", "id is required"},
		{`{"id":"a.b","base_url":"http://a"}`, "id", "dots or slashes"},
		{`{"id":"a/b","base_url":"http://a"}`, "id", "dots or slashes"},
		{`{"id":"a\u0000b","base_url":"http://a"}`, "id", "control"},
		{`{"id":"` + long + `","base_url":"http://a"}`, "id", "255"},
		{`{"id":"a"}`, "base_url", "base_url is required"},
		{`{"id":"a","base_url":"ftp://a"}`, "base_url", "http://"},
		{`{"id":"a","base_url":"http://"}`, "base_url", "no host"},
		{`{"id":"a","base_url":"http://u:p@a"}`, "base_url", "user name"},
		{`{"id":"a","base_url":"http://a?x=1"}`, "base_url", "query"},
		{`{"id":"a","base_url":"http://a:99999"}`, "base_url", "port"},
		{`{"id":"a","base_url":"http://169.254.169.254"}`, "base_url", "metadata"},
		{`{"id":"a","base_url":"http://a","invocation_url":"file:///x"}`, "invocation_url", "http://"},
		{`{"id":"a","base_url":"http://a","version":"1\n2"}`, "version", "control"},
		{`{"id":"a","base_url":"http://a","deployment_type":"cloud"}`, "deployment_type", "long_running"},
		{`{"id":"a","base_url":"http://a","reasoners":[{"id":""}]}`, "reasoners[0].id", "required"},
		{`{"id":"a","base_url":"http://a","skills":[{"id":"x"},{"id":"x.y"}]}`, "skills[1].id", "dots"},
		{`{"id":"a","base_url":"http://a","reasoners":[` + many + `]}`, "reasoners", "1000"},
		{`{"id":"a","base_url":"http://a","reasoners":[{"id":"f","input_schema":{"type":"strnig"}}]}`, "reasoners[0].input_schema", "function f does not compile"},
		{`{"id":"a","base_url":"http://a","reasoners":[{"id":"f","input_schema":{"$ref":"http://evil/x.json"}}]}`, "reasoners[0].input_schema", "refused"},
		{`{"id":"a","base_url":"http://a","reasoners":[{"id":"f","input_schema":{"$ref":"file:///etc/passwd"}}]}`, "reasoners[0].input_schema", "refused"},
		{`{"id":"a","base_url":"http://a","reasoners":[{"id":"f","input_schema":{"pattern":"["}}]}`, "reasoners[0].input_schema", "function f"},
		{`{"id":"a","base_url":"http://a","reasoners":[{"id":"f","input_schema":{"x":"` + strings.Repeat("y", 257<<10) + `"}}]}`, "reasoners[0].input_schema", "256 KiB"},
		{`{"id":"a","base_url":"http://a","callback_discovery":{"mode":"auto"},"metadata":{"x":"` + strings.Repeat("y", 257<<10) + `"}}`, "metadata", "256 KiB"},
		{`{"id":5}`, "id", "wrong type: number"},
		{`{"id":"a","reasoners":{}}`, "reasoners", "wrong type: object"},
		{`[]`, "", "the body has the wrong type: array"},
		{`{"id":`, "", "not valid JSON"},
	}
	o := Options{AllowUnsigned: true, CheckURL: func(raw string) error {
		if strings.Contains(raw, "169.254.") {
			return errors.New("a link-local or metadata address is refused")
		}
		return nil
	}}
	eachWith(t, o, func(t *testing.T, r *rig) {
		for _, c := range cases {
			reg, err := DecodeRegistration([]byte(c.body))
			if err == nil {
				_, err = r.Register(t.Context(), reg, "10.1.2.3")
			}
			var wrong *InvalidError
			if !errors.As(err, &wrong) || wrong.Field != c.field || !strings.Contains(wrong.Message, c.says) {
				t.Errorf("%.90s\n got %v\nwant field %q, text %q", c.body, err, c.field, c.says)
			}
		}
		if list, err := r.List(t.Context(), ListQuery{ShowAll: true}); err != nil || list.Count != 0 || len(r.changes()) != 0 {
			t.Errorf("refused registrations left something: %+v %v", list, err)
		}
	})
}

func TestTheFirstUsableCandidateBecomesTheAddress(t *testing.T) {
	refuse := Options{AllowUnsigned: true, CheckURL: func(raw string) error {
		if strings.Contains(raw, "169.254") {
			return errors.New("refused")
		}
		return nil
	}}
	cases := []struct{ fields, want string }{
		{`"base_url":"http://a:1/path","callback_discovery":{"mode":"python-sdk:auto","preferred":"http://b:2"}`, "http://a:1"},
		{`"callback_discovery":{"mode":"auto","preferred":"http://b:2/x","candidates":["http://c:3"]}`, "http://b:2"},
		{`"base_url":"http://0.0.0.0:7","callback_discovery":{"mode":"auto","candidates":["http://169.254.1.1:3","c"]}`, "http://c:7"},
		{`"base_url":"http://0.0.0.0:7","callback_discovery":{"mode":"auto","candidates":[]}`, "http://10.1.2.3:7"},
		{`"callback_discovery":{"mode":"auto"}`, "http://10.1.2.3:8001"},
		{`"base_url":"http://a:1/path","callback_discovery":{"mode":"manual","preferred":"http://b:2"}`, "http://a:1/path"},
		{`"base_url":"http://a:1","callback_discovery":{"mode":""}`, "http://a:1"},
	}
	eachWith(t, refuse, func(t *testing.T, r *rig) {
		for i, c := range cases {
			id := fmt.Sprintf("n%d", i)
			done := r.register(`{"id":"` + id + `",` + c.fields + `}`)
			if done.ResolvedBaseURL != c.want || r.get(id).BaseURL != c.want {
				t.Errorf("%s: resolved %s, want %s", c.fields, done.ResolvedBaseURL, c.want)
			}
			noted := strings.Contains(string(r.get(id).Metadata), `"callback_discovery":{"mode":"auto"`)
			if noted != (i < 5) || (done.CallbackDiscovery != nil) != (i < 5) {
				t.Errorf("%s: decision noted %v: %s", c.fields, noted, r.get(id).Metadata)
			}
		}
	})
}

func TestRegisteringAgainReplacesFunctionsAndKeepsTheFirstTime(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		first := r.register(`{"id":"hello","base_url":"http://a:1","instance_id":"k1","reasoners":[{"id":"greet"},{"id":"old"}]}`)
		registeredAt := r.get("hello").RegisteredAt
		if _, err := r.Lookup(t.Context(), "hello", "old"); err != nil {
			t.Fatal(err)
		}
		r.clock.advance(time.Minute)
		again := r.register(`{"id":"hello","base_url":"http://a:1/","version":"2","reasoners":[{"id":"greet"}],"skills":[{"id":"greet"},{"id":"new"}]}`)
		if again.InstanceID != first.InstanceID || len(r.lost) != 0 {
			t.Errorf("an empty instance_id is no restart: %s → %s, lost %v", first.InstanceID, again.InstanceID, r.lost)
		}
		a := r.get("hello")
		if a.RegisteredAt != registeredAt || a.Version != "2" || *a.InstanceID != "k1" || len(a.Instances) != 1 {
			t.Errorf("after registering again: %+v", a)
		}
		if _, err := r.Lookup(t.Context(), "hello", "old"); !errors.Is(err, ErrUnknownFunction) {
			t.Errorf("the old function is still there: %v", err)
		}
		greet, err := r.Lookup(t.Context(), "hello", "greet")
		if err != nil || greet.Kind != Reasoner || greet.Path() != "/reasoners/greet" {
			t.Errorf("a reasoner wins over a skill of its name: %+v %v", greet, err)
		}
		added, err := r.Lookup(t.Context(), "hello", "new")
		if err != nil || added.Path() != "/skills/new" {
			t.Errorf("the new skill: %+v %v", added, err)
		}
	})
}

func TestANewInstanceIDAtTheSameAddressIsARestart(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		one := r.register(`{"id":"hello","base_url":"http://a:1","instance_id":"k1"}`).InstanceID
		other := r.register(`{"id":"hello","base_url":"http://b:1","instance_id":"k9"}`).InstanceID
		two := r.register(`{"id":"hello","base_url":"http://a:1","instance_id":"k2"}`).InstanceID
		if one == two || two == other || !reflect.DeepEqual(r.lost, []string{one}) {
			t.Fatalf("ids %s %s, lost %v; want only %s lost", one, two, r.lost, one)
		}
		if !strings.HasPrefix(r.reasons[0], "agent_restart_orphaned: ") || !strings.Contains(r.reasons[0], two) {
			t.Errorf("the reason does not say what happened: %s", r.reasons[0])
		}
		if got := r.changes(); !reflect.DeepEqual(got, []string{"registered", "registered", "restarted"}) {
			t.Errorf("events %v", got)
		}
		if a := r.get("hello"); len(a.Instances) != 2 || *a.InstanceID != "k2" {
			t.Errorf("the newest registration is not the one that is shown: %+v", a)
		}
	})
}

func TestWhatRegistersAfterAShutdownIsANewLife(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		one := r.add("http://a:1")
		if _, err := r.Shutdown(t.Context(), "hello", Farewell{}, ""); err != nil {
			t.Fatal(err)
		}
		if r.Usable("hello") || !reflect.DeepEqual(r.lost, []string{one}) {
			t.Fatalf("after the shutdown: usable %v, lost %v", r.Usable("hello"), r.lost)
		}
		two := r.add("http://a:1")
		if two == one || !r.Usable("hello") {
			t.Errorf("the new life has id %s (before %s), usable %v", two, one, r.Usable("hello"))
		}
	})
}

func TestAForeignAddressNeedsTheNodeToken(t *testing.T) {
	eachWith(t, Options{}, func(t *testing.T, r *rig) {
		token := r.register(`{"id":"hello","base_url":"http://a:1","reasoners":[{"id":"greet"}]}`).NodeToken
		for _, wrong := range []string{"", "node_x", r.Token("other")} {
			_, err := r.Register(t.Context(), Registration{ID: "hello", BaseURL: "http://evil:1", NodeToken: wrong}, "")
			if !errors.Is(err, ErrNotOwner) {
				t.Errorf("token %q: %v", wrong, err)
			}
		}
		if _, err := r.Lookup(t.Context(), "hello", "greet"); err != nil || len(r.get("hello").Instances) != 1 {
			t.Errorf("a refused registration changed the node: %v", err)
		}
		if _, err := r.Register(t.Context(), Registration{ID: "hello", BaseURL: "http://a:1"}, ""); err != nil {
			t.Errorf("the known address needs no token: %v", err)
		}
		if _, err := r.Register(t.Context(), Registration{ID: "hello", BaseURL: "http://b:1", NodeToken: token}, ""); err != nil {
			t.Errorf("the holder of the token: %v", err)
		}
		if !r.VerifyToken("hello", token) || r.VerifyToken("hello2", token) || r.VerifyToken("hello", "") {
			t.Error("tokens are not bound to their node")
		}
	})
}

func TestTheCapFollowsTheAgentUntilAnOperatorChangesIt(t *testing.T) {
	eachWith(t, Options{AllowUnsigned: true, DefaultConcurrency: 7}, func(t *testing.T, r *rig) {
		declare := func(limit string) {
			r.register(`{"id":"hello","base_url":"http://a:1","metadata":{"custom":{"max_concurrency":` + limit + `}}}`)
		}
		queue := func() (limit int) {
			if err := r.db.QueryRow(t.Context(), "SELECT max_concurrency FROM node_queues WHERE node_id = 'hello'", nil, &limit); err != nil {
				t.Fatal(err)
			}
			return limit
		}
		for _, step := range []struct {
			declared string
			want     int
		}{{"0", 7}, {"3", 3}, {`"4"`, 4}, {"null", 7}, {`{"x":1}`, 7}, {"5", 5}} {
			if declare(step.declared); queue() != step.want {
				t.Errorf("declared %s: cap %d, want %d", step.declared, queue(), step.want)
			}
		}
		if err := r.db.Tx(t.Context(), operatorSets(t, 50)); err != nil {
			t.Fatal(err)
		}
		if declare("9"); queue() != 50 {
			t.Errorf("the operator's cap became %d", queue())
		}
	})
}

func TestOldInstancesAreForgottenWhenOthersRegister(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		gone := r.add("http://a:1")
		r.condemn()
		kept := r.add("http://b:1")
		r.clock.advance(forgetAfter + time.Second)
		r.add("http://c:1")
		a := r.get("hello")
		if len(a.Instances) != 2 || a.Instances[0].ID != kept || !reflect.DeepEqual(r.lost, []string{gone}) {
			t.Errorf("instances %+v, lost %v", a.Instances, r.lost)
		}
	})
}

func TestNodesAreListedAsTheProtocolHasIt(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.add("http://a:1")
		r.clock.advance(time.Second)
		r.register(`{"id":"later","base_url":"http://b:1","group_id":"g","team_id":"t"}`)
		ids := func(q ListQuery) string {
			list, err := r.List(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, n := range list.Nodes {
				ids = append(ids, n.ID)
			}
			if list.Count != len(ids) || list.Filters == nil {
				t.Errorf("count %d of %v, filters %v", list.Count, ids, list.Filters)
			}
			return strings.Join(ids, ",")
		}
		r.beats(`{"status":"ready"}`)
		for _, c := range []struct {
			q    ListQuery
			want string
		}{
			{ListQuery{}, "hello"},
			{ListQuery{ShowAll: true}, "later,hello"},
			{ListQuery{Health: "UNKNOWN"}, "later"},
			{ListQuery{ShowAll: true, GroupID: "g"}, "later"},
			{ListQuery{ShowAll: true, TeamID: "none"}, ""},
		} {
			if got := ids(c.q); got != c.want {
				t.Errorf("%+v: %q, want %q", c.q, got, c.want)
			}
		}
		var wrong *InvalidError
		if _, err := r.List(t.Context(), ListQuery{Health: "fine"}); !errors.As(err, &wrong) || wrong.Field != "health_status" {
			t.Errorf("unknown filter: %v", err)
		}
		text, err := json.Marshal(r.get("later"))
		if err != nil || strings.Contains(string(text), ":null") {
			t.Errorf("null in %s (%v)", text, err)
		}
		if _, err := r.Service.Get(t.Context(), "nobody", ""); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("unknown node: %v", err)
		}
		if _, err := r.Service.Get(t.Context(), "hello", "9"); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("unknown version: %v", err)
		}
	})
}
