package node

import (
	"errors"
	"testing"

	"github.com/agentfield/agentfield/app/audit"
)

var operator = audit.Origin{Actor: "user:olga", ActorKind: "user", Channel: audit.UI}

// acts are the entries of the audit log, oldest first.
func (r *rig) acts() (list []string) {
	r.t.Helper()
	rows, err := r.db.Query(r.t.Context(), "SELECT action, object FROM audit_log ORDER BY id")
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var action, object string
		if err := rows.Scan(&action, &object); err != nil {
			r.t.Fatal(err)
		}
		list = append(list, action+" "+object)
	}
	return list
}

func (r *rig) wantActs(want ...string) {
	r.t.Helper()
	got := r.acts()
	if len(got) != len(want) {
		r.t.Fatalf("the audit log has %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			r.t.Errorf("entry %d of the audit log is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestADrainingInstanceGetsNoNewCalls(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a, b := r.add("http://a:1"), r.add("http://b:1")
		begun := r.claim()
		if n, err := r.Drain(t.Context(), operator, "hello", a); n != 1 || err != nil {
			t.Fatalf("drained %d, %v", n, err)
		}
		if n, err := r.Drain(t.Context(), operator, "hello", a); n != 0 || err != nil {
			t.Errorf("drained again: %d, %v", n, err)
		}
		for range 10 {
			c := r.claim()
			if c.Instance.ID != b {
				t.Fatal("a draining instance got a call")
			}
			c.Release(OK)
		}
		if shown := r.instance(a); shown.DrainingSince == nil || shown.InFlight+r.instance(b).InFlight != 1 {
			t.Errorf("shown as %+v", shown)
		}
		begun.Release(OK)
		if n, err := r.Drain(t.Context(), operator, "hello", ""); n != 1 || err != nil {
			t.Errorf("the rest: %d, %v", n, err)
		}
		for name, claim := range map[string]func(string, string, map[string]bool) (*Claimed, error){"async": r.Claim, "sync": r.ClaimAny} {
			if _, err := claim("hello", "greet", nil); !errors.Is(err, ErrNoInstance) || r.Usable("hello") {
				t.Errorf("%s with all draining: %v", name, err)
			}
		}
		before := r.availableCount()
		if n, err := r.Resume(t.Context(), operator, "hello", ""); n != 2 || err != nil || r.availableCount() != before+1 {
			t.Errorf("resumed %d, %v", n, err)
		}
		r.claim().Release(OK)
		r.wantActs("node.drained hello/"+a, "node.drained hello", "node.resumed hello")
	})
}

// Another replica learns of it, a heartbeat does not undo it, and the next life of the instance begins without it.
func TestDrainingLastsUntilTheInstanceIsReplaced(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		first := r.register(`{"id":"hello","base_url":"http://a:1","instance_id":"one","reasoners":[{"id":"greet"}]}`).InstanceID
		if _, err := r.Drain(t.Context(), operator, "hello", first); err != nil {
			t.Fatal(err)
		}
		r.beats(`{"status":"ready"}`)
		r.register(`{"id":"hello","base_url":"http://a:1","instance_id":"one","reasoners":[{"id":"greet"}]}`)
		if r.Usable("hello") || r.another(Options{AllowUnsigned: true}).Usable("hello") {
			t.Error("in rotation again")
		}
		r.register(`{"id":"hello","base_url":"http://a:1","instance_id":"two","reasoners":[{"id":"greet"}]}`)
		if !r.Usable("hello") {
			t.Error("the new copy is not in rotation")
		}
	})
}

func TestAFunctionMayHaveLimitsOfItsOwn(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		const two = `{"id":"hello","base_url":"http://a:1","reasoners":[{"id":"greet"},{"id":"other"}]}`
		r.register(two)
		want := Limits{MaxConcurrency: 2, MaxDepth: 5, MaxPerMinute: 60}
		if err := r.SetLimits(t.Context(), operator, "hello", "greet", want); err != nil {
			t.Fatal(err)
		}
		r.register(two)
		all, err := r.Limits(t.Context(), "hello")
		if err != nil || all.Of("greet") != want || all.Of("other") != (Limits{}) || all.Of("") != (Limits{}) {
			t.Errorf("limits: %+v, %v", all, err)
		}
		for name, limited := range map[string]bool{"greet": true, "other": false} {
			f, err := r.Lookup(t.Context(), "hello", name)
			if err != nil || f.Limited != limited || f.NodeDepth != 0 || (f.Depth == 5) != limited {
				t.Errorf("%s: %+v, %v", name, f, err)
			}
		}
		if a := r.get("hello"); a.Limits == nil || a.Limits.Of("greet") != want {
			t.Errorf("shown as %+v", a.Limits)
		}
		if err := r.SetLimits(t.Context(), operator, "hello", "greet", Limits{}); err != nil {
			t.Fatal(err)
		}
		if f, err := r.Lookup(t.Context(), "hello", "greet"); err != nil || f.Limited || f.Depth != 0 {
			t.Errorf("after the limits were lifted: %+v, %v", f, err)
		}
		if err := r.SetLimits(t.Context(), operator, "hello", "missing", want); !errors.Is(err, ErrUnknownFunction) {
			t.Errorf("a function that is not there: %v", err)
		}
		var n int
		if err := r.db.QueryRow(t.Context(), "SELECT count(*) FROM audit_log WHERE action = 'node.limited' AND object = 'hello.greet'", nil, &n); err != nil || n != 2 {
			t.Errorf("%d entries in the audit log, %v", n, err)
		}
	})
}

func TestLimitsOfAnOperatorStand(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.add("http://a:1")
		want := Limits{MaxConcurrency: 7, MaxDepth: 90}
		for range 2 { // the second changes nothing
			if err := r.SetLimits(t.Context(), operator, "hello", "", want); err != nil {
				t.Fatal(err)
			}
		}
		r.register(`{"id":"hello","base_url":"http://a:1","metadata":{"custom":{"max_concurrency":3}},"reasoners":[{"id":"greet"}]}`)
		if got, err := r.Limits(t.Context(), "hello"); got.Limits != want || err != nil {
			t.Errorf("limits: %+v, %v", got, err)
		}
		if f, err := r.Lookup(t.Context(), "hello", "greet"); err != nil || !f.Limited || f.NodeDepth != 90 {
			t.Errorf("the cap in force: %+v, %v", f, err)
		}
		for _, bad := range []Limits{{MaxConcurrency: -1}, {MaxDepth: -1}, {MaxPerMinute: -1}, {MaxConcurrency: maxLimit + 1}, {MaxDepth: maxLimit + 1}} {
			if err := r.SetLimits(t.Context(), operator, "hello", "", bad); !errors.Is(err, ErrBadLimit) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		r.wantActs("node.limited hello")
	})
}

func TestOnlyANodeThatIsDownIsRemoved(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.add("http://a:1")
		if err := r.Remove(t.Context(), operator, "hello"); !errors.Is(err, ErrStillUp) {
			t.Errorf("a node that is up: %v", err)
		}
		r.condemn()
		if err := r.Remove(t.Context(), operator, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Service.Get(t.Context(), "hello", ""); !errors.Is(err, ErrUnknownNode) || r.Usable("hello") {
			t.Errorf("after its removal: %v", err)
		}
		r.wantActs("node.removed hello")
		r.add("http://a:1") // it may come back
		r.claim().Release(OK)
	})
}

func TestWhatIsNotThereCannotBeOperated(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.add("http://a:1")
		_, drained := r.Drain(t.Context(), operator, "nobody", "")
		_, resumed := r.Resume(t.Context(), operator, "nobody", "")
		for what, err := range map[string]error{
			"drain": drained, "resume": resumed, "limit": r.SetLimits(t.Context(), operator, "nobody", "", Limits{}), "remove": r.Remove(t.Context(), operator, "nobody"),
		} {
			if !errors.Is(err, ErrUnknownNode) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := r.Drain(t.Context(), operator, "hello", "another"); !errors.Is(err, ErrUnknownInstance) {
			t.Errorf("an unknown instance: %v", err)
		}
		r.wantActs()
	})
}
