package access_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
)

// cheap is a hashing that costs nothing, for tests.
var cheap = access.Hashing{MemoryKiB: 64, Passes: 1, Threads: 1}

const good = "correct horse battery"

// rig is a service on an empty database under a clock that stands still.
type rig struct {
	*access.Service
	t   *testing.T
	db  *database.DB
	now atomic.Int64
}

// each runs fn on both engines.
func each(t *testing.T, o access.Options, fn func(r *rig)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		r := &rig{t: t}
		r.now.Store(time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC).UnixMilli())
		c.Clock = func() time.Time { return time.UnixMilli(r.now.Load()) }
		r.db = dbtest.Open(t, c)
		r.Service = r.another(o)
		fn(r)
	})
}

// another is a further replica on the same database.
func (r *rig) another(o access.Options) *access.Service {
	o.DB = r.db
	if o.Hashing == (access.Hashing{}) {
		o.Hashing = cheap
	}
	return access.New(o)
}

func (r *rig) pass(d time.Duration) { r.now.Add(d.Milliseconds()) }

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) refused(err, want error) {
	r.t.Helper()
	if !errors.Is(err, want) {
		r.t.Fatalf("got %v, want %v", err, want)
	}
}

// from is an act in the browser from an address.
func from(ip string) audit.Origin {
	return audit.Origin{Actor: "user:root", ActorKind: "user", Channel: audit.UI, IP: ip, RequestID: "req_1"}
}

// add makes an admin "root" first, if there is none, and then somebody with a role.
func (r *rig) add(name string, role access.Role, groups ...string) {
	r.t.Helper()
	if !r.Peopled(r.t.Context()) && name != "root" {
		r.add("root", access.Administrator)
	}
	_, err := r.CreateUser(r.t.Context(), from("192.0.2.1"), access.NewUser{Name: name, Role: role, Groups: groups, Password: good})
	r.must(err)
}

func (r *rig) signIn(name string) (string, access.Principal) {
	r.t.Helper()
	token, p, err := r.SignIn(r.t.Context(), from("192.0.2.7"), access.Attempt{Name: name, Password: good, Browser: "test"})
	r.must(err)
	return token, p
}

// trail is what the record says: actions, oldest first.
func (r *rig) trail() string {
	r.t.Helper()
	entries, _, err := audit.NewReader(r.db).List(r.t.Context(), audit.Filter{}, 0, 1000)
	r.must(err)
	var words []string
	for _, e := range slices.Backward(entries) {
		words = append(words, e.Action)
	}
	report, err := audit.Verify(r.t.Context(), r.db)
	r.must(err)
	if !report.OK() {
		r.t.Errorf("the record is damaged: %+v", report)
	}
	return strings.Join(words, " ")
}

// writeScopes changes a key as somebody does who writes to the database by hand.
func writeScopes(r *rig, id, scopes string) {
	r.t.Helper()
	r.must(r.db.Tx(r.t.Context(), func(tx *database.Tx) error {
		_, err := tx.Exec(r.t.Context(), "UPDATE api_keys SET scopes = $1 WHERE id = $2", scopes, id)
		return err
	}))
}
