package access_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/access"
)

// admin signs root in.
func (r *rig) admin() access.Principal {
	r.t.Helper()
	r.add("root", access.Administrator)
	_, p := r.signIn("root")
	return p
}

func (r *rig) key(by access.Principal, personal bool, scopes ...access.Scope) (string, string) {
	r.t.Helper()
	key, row, err := r.CreateKey(r.t.Context(), by, from(""), access.NewKey{Name: "test", Scopes: scopes, Personal: personal})
	r.must(err)
	return key, row.ID
}

func TestAKeyIsShownOnceAndDoesWhatItsScopesSay(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		ctx, root := t.Context(), r.admin()
		key, id := r.key(root, false, access.Execute, access.Read, access.Execute)
		if !strings.HasPrefix(key, "af_"+id+"_") || len(id) != 16 || len(key) != 3+16+1+52 {
			t.Fatalf("%s", key)
		}
		p, err := r.Authenticate(ctx, key, "192.0.2.3")
		r.must(err)
		if p.ID != "key:"+id || p.KeyID != id || p.Kind != access.KindKey || p.Person() || !slices.Equal(p.Scopes(), []access.Scope{access.Read, access.Execute}) {
			t.Errorf("%+v %v", p, p.Scopes())
		}
		for _, wrong := range []string{"", "x", key + "a", key[:len(key)-1], "af_" + id + "_", "af_" + id, strings.Replace(key, id, "aaaaaaaaaaaaaaaa", 1), strings.TrimPrefix(key, "af_"), "af_aaaaaaaaaaaaaaa\x00_x", "af_aaaaaaaaaaaaaa\xff\xff_x"} {
			if _, err := r.Authenticate(ctx, wrong, "192.0.2.4"); !errors.Is(err, access.ErrUnauthorized) {
				t.Errorf("%q: %v", wrong, err)
			}
		}
		keys, err := r.Keys(ctx, root)
		r.must(err)
		if len(keys) != 1 || keys[0].LastUsedAt == nil || *keys[0].LastUsedAt != r.now.Load() || keys[0].CreatedBy != "user:root" {
			t.Errorf("%+v", keys)
		}
	})
}

func TestAgentsNeverApprove(t *testing.T) {
	each(t, access.Options{APIKey: "the shared key"}, func(r *rig) {
		ctx, root := t.Context(), r.admin()
		for _, beyond := range []access.Scope{access.Approve, access.Operate, access.Admin} {
			_, _, err := r.CreateKey(ctx, root, from(""), access.NewKey{Name: "k", Scopes: []access.Scope{access.Agent, beyond}})
			r.refused(err, access.ErrAgentScope)
		}
		key, id := r.key(root, false, access.Agent)
		p, err := r.Authenticate(ctx, key, "")
		r.must(err)
		if p.Kind != access.KindAgent || p.Can(access.Approve) || !p.Can(access.Agent) {
			t.Errorf("%+v", p)
		}
		// A row that somebody wrote by hand does not help either.
		writeScopes(r, id, "agent approve admin")
		p, err = r.another(access.Options{}).Authenticate(ctx, key, "")
		r.must(err)
		if p.Can(access.Approve) {
			t.Error("an agent approves")
		}
		shared, err := r.Authenticate(ctx, "the shared key", "")
		r.must(err)
		if shared.Can(access.Approve) || shared.Can(access.Admin) || !shared.Can(access.Execute) || !shared.Can(access.Read) || !shared.Can(access.Agent) {
			t.Errorf("the shared key may %v", shared.Scopes())
		}
		approver, _ := r.key(root, false, access.Approve)
		p, err = r.Authenticate(ctx, approver, "")
		r.must(err)
		if !p.Can(access.Approve) || p.AsAgent().Can(access.Approve) {
			t.Error("the marks of an agent make no difference")
		}
	})
}

func TestPeopleMakeKeysThatCanDoNoMoreThanThey(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		ctx := t.Context()
		r.add("rex", access.Reviewer, "claims")
		_, rex := r.signIn("rex")
		_, root := r.signIn("root")
		for _, k := range []access.NewKey{
			{Name: "service", Scopes: []access.Scope{access.Read}},
			{Name: "more", Scopes: []access.Scope{access.Read, access.Execute}, Personal: true},
			{Name: "agent", Scopes: []access.Scope{access.Agent}, Personal: true},
		} {
			_, _, err := r.CreateKey(ctx, rex, from(""), k)
			r.refused(err, access.ErrForbidden)
		}
		key, id := r.key(rex, true, access.Read, access.Approve)
		p, err := r.Authenticate(ctx, key, "")
		r.must(err)
		if p.ID != "user:rex" || p.Name != "rex" || p.Kind != access.KindKey || p.KeyID != id || p.Groups[0] != "claims" || !p.Can(access.Approve) {
			t.Errorf("%+v", p)
		}
		_, _, err = r.CreateKey(ctx, p, from(""), access.NewKey{Name: "k", Scopes: []access.Scope{access.Read}, Personal: true})
		r.refused(err, access.ErrForbidden)
		_, rootsID := r.key(root, false, access.Read)
		_, err = r.RevokeKey(ctx, rex, from(""), rootsID)
		r.refused(err, access.ErrNoKey)
		mine, err := r.Keys(ctx, rex)
		r.must(err)
		if len(mine) != 1 || mine[0].ID != id {
			t.Errorf("rex sees %+v", mine)
		}
		// With the role goes the right, with the account the key.
		_, err = r.SetRole(ctx, from(""), "rex", access.Viewer)
		r.must(err)
		p, err = r.Authenticate(ctx, key, "")
		r.must(err)
		if p.Can(access.Approve) || !p.Can(access.Read) {
			t.Errorf("a viewer's key may %v", p.Scopes())
		}
		_, err = r.SetDisabled(ctx, from(""), "rex", true)
		r.must(err)
		_, err = r.Authenticate(ctx, key, "")
		r.refused(err, access.ErrUnauthorized)
	})
}

func TestARevokedKeyStopsAtOnceHereAndSoonElsewhere(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		ctx, root := t.Context(), r.admin()
		other := r.another(access.Options{})
		key, id := r.key(root, false, access.Read)
		for _, s := range []*access.Service{r.Service, other} {
			_, err := s.Authenticate(ctx, key, "")
			r.must(err)
		}
		_, err := r.RevokeKey(ctx, root, from(""), id)
		r.must(err)
		_, err = r.Authenticate(ctx, key, "")
		r.refused(err, access.ErrUnauthorized)
		r.pass(2 * time.Second)
		_, err = other.Authenticate(ctx, key, "")
		r.refused(err, access.ErrUnauthorized)
		_, err = r.RevokeKey(ctx, root, from(""), id)
		r.must(err)
		for _, id := range []string{"", "no-such-key", "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaa\x00"} {
			_, err = r.RevokeKey(ctx, root, from(""), id)
			r.refused(err, access.ErrNoKey)
		}
		if got := r.trail(); got != "user.created user.signed_in key.created key.revoked" {
			t.Errorf("the record: %s", got)
		}
	})
}

func TestKeysExpire(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		ctx, root := t.Context(), r.admin()
		key, _, err := r.CreateKey(ctx, root, from(""), access.NewKey{Name: "k", Scopes: []access.Scope{access.Read}, ExpiresIn: time.Hour})
		r.must(err)
		r.pass(time.Hour - time.Millisecond)
		_, err = r.Authenticate(ctx, key, "")
		r.must(err)
		r.pass(time.Millisecond)
		_, err = r.Authenticate(ctx, key, "")
		r.refused(err, access.ErrUnauthorized)
	})
}

func TestKeysAreChecked(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		root := r.admin()
		read := []access.Scope{access.Read}
		for _, c := range []struct {
			k    access.NewKey
			want error
		}{
			{access.NewKey{Scopes: read}, access.ErrBadKeyName},
			{access.NewKey{Name: "a\nb", Scopes: read}, access.ErrBadKeyName},
			{access.NewKey{Name: strings.Repeat("x", 101), Scopes: read}, access.ErrBadKeyName},
			{access.NewKey{Name: "k"}, access.ErrBadScopes},
			{access.NewKey{Name: "k", Scopes: []access.Scope{"everything"}}, access.ErrBadScopes},
			{access.NewKey{Name: "k", Scopes: []access.Scope{access.Public}}, access.ErrBadScopes},
			{access.NewKey{Name: "k", Scopes: read, ExpiresIn: time.Second}, access.ErrBadExpiry},
			{access.NewKey{Name: "k", Scopes: read, ExpiresIn: -time.Hour}, access.ErrBadExpiry},
		} {
			if _, _, err := r.CreateKey(t.Context(), root, from(""), c.k); !errors.Is(err, c.want) {
				t.Errorf("%+v: %v, want %v", c.k, err, c.want)
			}
		}
	})
}

func TestGuessedKeysAreCountedAndGoodOnesPass(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		key, _ := r.key(r.admin(), false, access.Read)
		for range 30 {
			_, err := r.Authenticate(t.Context(), "guess", "192.0.2.66")
			r.refused(err, access.ErrUnauthorized)
		}
		_, err := r.Authenticate(t.Context(), "guess", "192.0.2.66")
		r.throttled(err, time.Minute)
		_, err = r.Authenticate(t.Context(), key, "192.0.2.66")
		r.must(err)
		_, err = r.Authenticate(t.Context(), "", "192.0.2.66")
		r.refused(err, access.ErrUnauthorized)
	})
}

func TestWithoutCredentialsAForeignKeyDoesNoHarmButOursCounts(t *testing.T) {
	each(t, access.Options{Loopback: true}, func(r *rig) {
		ctx := t.Context()
		p, err := r.Authenticate(ctx, "sk-of-somebody-else", "")
		r.must(err)
		if p.Kind != access.KindLocal {
			t.Errorf("%+v", p)
		}
		key, id := r.key(p, false, access.Agent)
		p, err = r.Authenticate(ctx, key, "")
		r.must(err)
		if p.Kind != access.KindAgent || p.Can(access.Approve) {
			t.Errorf("%+v", p)
		}
		_, err = r.RevokeKey(ctx, access.Local(), from(""), id)
		r.must(err)
		_, err = r.Authenticate(ctx, key, "")
		r.refused(err, access.ErrUnauthorized)
	})
}
