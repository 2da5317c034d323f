package access_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/access"
)

func TestRolesContainEachOther(t *testing.T) {
	for role, want := range map[access.Role]string{
		access.Viewer: "read", access.Reviewer: "read approve", access.Operator: "read execute operate",
		access.Administrator: "read execute approve operate admin", "root": "",
	} {
		var got []string
		for _, s := range role.Scopes() {
			got = append(got, string(s))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s may %v, want %s", role, got, want)
		}
	}
}

func TestTheFirstUserIsAnAdminAndTheLastAdminStays(t *testing.T) {
	each(t, access.Options{Loopback: true}, func(r *rig) {
		ctx, o := t.Context(), from("192.0.2.1")
		_, err := r.CreateUser(ctx, o, access.NewUser{Name: "vera", Role: access.Viewer, Password: good})
		r.refused(err, access.ErrFirstAdmin)
		r.add("root", access.Administrator)
		_, err = r.SetRole(ctx, o, "root", access.Viewer)
		r.refused(err, access.ErrLastAdmin)
		_, err = r.SetDisabled(ctx, o, "root", true)
		r.refused(err, access.ErrLastAdmin)
		r.add("rita", access.Administrator)
		_, err = r.SetDisabled(ctx, o, "root", true)
		r.must(err)
		_, err = r.SetRole(ctx, o, "rita", access.Operator)
		r.refused(err, access.ErrLastAdmin)
		if got := r.trail(); got != "user.created user.created user.disabled" {
			t.Errorf("the record: %s", got)
		}
	})
}

func TestTwoAdminsCannotDemoteEachOther(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("ann", access.Administrator)
		_, err := r.SetDisabled(t.Context(), from("192.0.2.1"), "root", true)
		r.must(err)
		r.add("bob", access.Administrator)
		errs := make(chan error, 2)
		var wg sync.WaitGroup
		for _, name := range []string{"ann", "bob"} {
			wg.Go(func() {
				_, err := r.SetRole(t.Context(), from("192.0.2.1"), name, access.Viewer)
				errs <- err
			})
		}
		wg.Wait()
		one, two := <-errs, <-errs
		if (one == nil) == (two == nil) || !errors.Is(errors.Join(one, two), access.ErrLastAdmin) {
			t.Errorf("%v and %v: exactly one must succeed", one, two)
		}
	})
}

func TestNamesAreFoldedUniqueAndPlain(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		ctx, o := t.Context(), from("192.0.2.1")
		r.add("root", access.Administrator)
		u, err := r.CreateUser(ctx, o, access.NewUser{Name: " Ann@Example.org ", Role: access.Viewer, Groups: []string{"Claims", "claims", " ", "b"}, Password: good})
		r.must(err)
		if u.Name != "ann@example.org" || u.DisplayName != u.Name || strings.Join(u.Groups, ",") != "b,claims" {
			t.Errorf("%+v", u)
		}
		_, err = r.CreateUser(ctx, o, access.NewUser{Name: "ANN@example.org", Role: access.Viewer, Password: good})
		r.refused(err, access.ErrUserExists)
		for _, name := range []string{"", " ", "a b", "ä", "-x", "a/b", "a:b", "а", strings.Repeat("x", 65), "a\x00"} {
			_, err := r.CreateUser(ctx, o, access.NewUser{Name: name, Role: access.Viewer, Password: good})
			if !errors.Is(err, access.ErrBadName) {
				t.Errorf("%q: %v", name, err)
			}
		}
		for _, c := range []struct {
			u    access.NewUser
			want error
		}{
			{access.NewUser{Name: "x", Role: "root", Password: good}, access.ErrBadRole},
			{access.NewUser{Name: "x", Role: access.Viewer, Password: good, Groups: []string{"a b"}}, access.ErrBadGroup},
			{access.NewUser{Name: "x", Role: access.Viewer, Password: good, DisplayName: "a\nb"}, access.ErrBadDisplayName},
			{access.NewUser{Name: "x", Role: access.Viewer, Password: good, DisplayName: "a\u202eb"}, access.ErrBadDisplayName},
			{access.NewUser{Name: "x", Role: access.Viewer, Password: "elevenchars"}, access.ErrWeakPassword},
			{access.NewUser{Name: "x", Role: access.Viewer, Password: "aaaaaaaaaaaaaa"}, access.ErrWeakPassword},
			{access.NewUser{Name: "administrator", Role: access.Viewer, Password: "Administrator"}, access.ErrWeakPassword},
			{access.NewUser{Name: "x", Role: access.Viewer, Password: strings.Repeat("ab", 129)}, access.ErrWeakPassword},
		} {
			if _, err := r.CreateUser(ctx, o, c.u); !errors.Is(err, c.want) {
				t.Errorf("%+v: %v, want %v", c.u, err, c.want)
			}
		}
		_, err = r.CreateUser(ctx, o, access.NewUser{Name: "uml", Role: access.Viewer, Password: "äöüäöüäöüäöß"}) // 12 characters
		r.must(err)
		_, err = r.SetRole(ctx, o, "nobody", access.Viewer)
		r.refused(err, access.ErrNoUser)
		all, err := r.Users(ctx)
		r.must(err)
		if len(all) != 3 || all[0].Name != "ann@example.org" || all[2].Name != "uml" {
			t.Errorf("%+v", all)
		}
	})
}

func TestPasswordsAreStoredAsArgon2idAndHashedAnewWhenCostsChange(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("root", access.Administrator)
		stored := func() string {
			u, err := r.User(t.Context(), "root")
			r.must(err)
			return u.PasswordHash
		}
		first := stored()
		if !strings.HasPrefix(first, "$argon2id$v=19$m=64,t=1,p=1$") || strings.Contains(first, good) {
			t.Fatalf("stored as %s", first)
		}
		r.signIn("root")
		if stored() != first {
			t.Error("hashed anew without a reason")
		}
		r.Service = r.another(access.Options{Hashing: access.Hashing{MemoryKiB: 128, Passes: 2, Threads: 1}})
		r.signIn("root")
		if !strings.HasPrefix(stored(), "$argon2id$v=19$m=128,t=2,p=1$") {
			t.Errorf("still stored as %s", stored())
		}
		r.signIn("root")
	})
}

// TestTheDefaultCostsAreThoseThatWePromise signs in once at full cost.
func TestTheDefaultCostsAreThoseThatWePromise(t *testing.T) {
	each(t, access.Options{Hashing: access.Hashing{MemoryKiB: 19 << 10}}, func(r *rig) {
		r.Service = access.New(access.Options{DB: r.db})
		r.add("root", access.Administrator)
		u, err := r.User(t.Context(), "root")
		r.must(err)
		if !strings.HasPrefix(u.PasswordHash, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Errorf("stored as %s", u.PasswordHash)
		}
		r.signIn("root")
	})
}

func TestTheModeWithoutCredentialsEndsWithTheFirstUser(t *testing.T) {
	each(t, access.Options{Loopback: true}, func(r *rig) {
		ctx := t.Context()
		other := r.another(access.Options{Loopback: true})
		if !r.Open(ctx) || !other.Open(ctx) {
			t.Fatal("a loopback address without users demands credentials")
		}
		p, err := r.Authenticate(ctx, "", "127.0.0.1")
		r.must(err)
		if p.Kind != access.KindLocal || !p.Can(access.Approve) || !p.Can(access.Agent) || !p.Can(access.Admin) || p.IsAgent() {
			t.Errorf("%+v", p)
		}
		if a := p.AsAgent(); a.Can(access.Approve) || a.Can(access.Admin) || a.Can(access.Operate) || !a.Can(access.Agent) || !a.IsAgent() {
			t.Errorf("as an agent: %v", a.Scopes())
		}
		r.add("root", access.Administrator)
		if r.Open(ctx) {
			t.Error("still open here")
		}
		r.pass(2 * time.Second)
		if other.Open(ctx) {
			t.Error("still open at the other replica after 2 s")
		}
		_, err = r.Authenticate(ctx, "", "127.0.0.1")
		r.refused(err, access.ErrUnauthorized)
		for name, o := range map[string]access.Options{"another address": {}, "a key": {Loopback: true, APIKey: "k"}} {
			if r.another(o).Open(ctx) {
				t.Errorf("%s: open", name)
			}
		}
	})
}

func TestTheFirstTokenMakesOneAdmin(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		ctx, o := t.Context(), from("192.0.2.9")
		token, err := r.Bootstrap(ctx)
		r.must(err)
		again, err := r.Bootstrap(ctx)
		r.must(err)
		if len(token) < 50 || again != "" {
			t.Fatalf("tokens %q and %q", token, again)
		}
		if _, err := r.Authenticate(ctx, token, "192.0.2.9"); !errors.Is(err, access.ErrUnauthorized) {
			t.Errorf("the token is a key: %v", err)
		}
		root := access.NewUser{Name: "root", Password: good, Role: access.Viewer}
		_, _, err = r.FirstAdmin(ctx, o, token+"x", root, "")
		r.refused(err, access.ErrBadBootstrap)
		session, p, err := r.FirstAdmin(ctx, o, " "+token+"\n", root, "test")
		r.must(err)
		if p.Role != access.Administrator || !p.Can(access.Admin) {
			t.Errorf("%+v", p)
		}
		if _, err := r.Session(ctx, session); err != nil {
			t.Error(err)
		}
		_, _, err = r.FirstAdmin(ctx, o, token, access.NewUser{Name: "eve", Password: good}, "")
		r.refused(err, access.ErrBadBootstrap)
		if again, err = r.Bootstrap(ctx); err != nil || again != "" {
			t.Errorf("another token: %q, %v", again, err)
		}
	})
}

func TestTheFirstTokenExpires(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		token, err := r.Bootstrap(t.Context())
		r.must(err)
		r.pass(24 * time.Hour)
		_, _, err = r.FirstAdmin(t.Context(), from("192.0.2.9"), token, access.NewUser{Name: "root", Password: good}, "")
		r.refused(err, access.ErrBadBootstrap)
		next, err := r.Bootstrap(t.Context())
		r.must(err)
		if next == "" || next == token {
			t.Errorf("the next one is %q", next)
		}
	})
}

func TestManyWithTheFirstTokenMakeOneAdmin(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		token, err := r.Bootstrap(t.Context())
		r.must(err)
		errs := make(chan error, 4)
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d"} {
			wg.Go(func() {
				_, _, err := r.FirstAdmin(t.Context(), from("192.0.2.9"), token, access.NewUser{Name: name, Password: good}, "")
				errs <- err
			})
		}
		wg.Wait()
		won := 0
		for range 4 {
			if err := <-errs; err == nil {
				won++
			} else if !errors.Is(err, access.ErrBadBootstrap) {
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d admins", won)
		}
	})
}
