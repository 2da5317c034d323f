package access_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/access"
)

func TestASessionIsOnlyWhatTheServerMade(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		ctx := t.Context()
		r.add("vera", access.Viewer, "claims")
		token, p := r.signIn("Vera")
		if len(token) != 52 || p.ID != "user:vera" || p.Name != "vera" || p.Kind != access.KindUser || p.Can(access.Approve) || !p.Can(access.Read) || p.Groups[0] != "claims" {
			t.Fatalf("%q %+v", token, p)
		}
		again, err := r.Session(ctx, token)
		r.must(err)
		if again.ID != p.ID || again.Role != access.Viewer || again.Groups[0] != "claims" {
			t.Errorf("%+v", again)
		}
		for _, id := range []string{"", "x", strings.Repeat("a", 52), token[:51], strings.ToUpper(token), token + "a"} {
			if _, err := r.Session(ctx, id); !errors.Is(err, access.ErrNoSession) {
				t.Errorf("%q: %v", id, err)
			}
		}
		if list, err := r.Sessions(ctx, "vera"); err != nil || len(list) != 1 || list[0].Browser != "test" || !access.Current(list[0], token) || strings.Contains(string(list[0].Hash), token) {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

func TestSigningInAgainTakesANewIDAndEndsTheOld(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("vera", access.Viewer)
		old, _ := r.signIn("vera")
		token, _, err := r.SignIn(t.Context(), from("192.0.2.7"), access.Attempt{Name: "vera", Password: good, Previous: old})
		r.must(err)
		if token == old {
			t.Fatal("the same id")
		}
		_, err = r.Session(t.Context(), old)
		r.refused(err, access.ErrNoSession)
		chosen := strings.Repeat("b", 52)
		token, _, err = r.SignIn(t.Context(), from("192.0.2.7"), access.Attempt{Name: "vera", Password: good, Previous: chosen})
		r.must(err)
		if token == chosen {
			t.Error("adopted")
		}
		_, err = r.Session(t.Context(), chosen)
		r.refused(err, access.ErrNoSession)
	})
}

func TestSessionsEndByIdlenessAndByAge(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		ctx := t.Context()
		r.add("vera", access.Viewer)
		idle, _ := r.signIn("vera")
		busy, _ := r.signIn("vera")
		for range 3 {
			r.pass(7*time.Hour + 59*time.Minute)
			_, err := r.Session(ctx, busy)
			r.must(err)
		}
		if _, err := r.Session(ctx, idle); !errors.Is(err, access.ErrNoSession) {
			t.Errorf("idle for a day: %v", err)
		}
		r.pass(3 * time.Minute)
		if _, err := r.Session(ctx, busy); !errors.Is(err, access.ErrNoSession) {
			t.Errorf("after 24 h: %v", err)
		}
		if list, err := r.Sessions(ctx, "vera"); err != nil || len(list) != 0 {
			t.Errorf("%v %v", list, err)
		}
	})
}

func TestUseIsWrittenOnceAMinute(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("vera", access.Viewer)
		token, _ := r.signIn("vera")
		begun := r.now.Load()
		seen := func() int64 {
			_, err := r.Session(t.Context(), token)
			r.must(err)
			list, err := r.Sessions(t.Context(), "vera")
			r.must(err)
			return list[0].SeenAt
		}
		r.pass(59 * time.Second)
		if at := seen(); at != begun {
			t.Errorf("written after 59 s")
		}
		r.pass(time.Second)
		if at := seen(); at != begun+60_000 {
			t.Errorf("not written after 60 s")
		}
	})
}

// TestWhatEndsSessions: each act ends those it should, at once.
func TestWhatEndsSessions(t *testing.T) {
	for name, act := range map[string]func(r *rig, token string) error{
		"sign out":   func(r *rig, token string) error { return r.SignOut(r.t.Context(), from(""), token) },
		"everywhere": func(r *rig, _ string) error { return r.SignOutEverywhere(r.t.Context(), from(""), "vera") },
		"another role": func(r *rig, _ string) error {
			_, err := r.SetRole(r.t.Context(), from(""), "vera", access.Administrator)
			return err
		},
		"disabled": func(r *rig, _ string) error {
			_, err := r.SetDisabled(r.t.Context(), from(""), "vera", true)
			return err
		},
		"another password": func(r *rig, _ string) error {
			_, err := r.SetPassword(r.t.Context(), from(""), "vera", "another good one")
			return err
		},
		"own password": func(r *rig, _ string) error {
			fresh, err := r.ChangePassword(r.t.Context(), from("192.0.2.7"), "vera", good, "another good one", "test")
			if err == nil {
				_, err = r.Session(r.t.Context(), fresh)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, access.Options{}, func(r *rig) {
				r.add("vera", access.Reviewer)
				token, _ := r.signIn("vera")
				root, _ := r.signIn("root")
				r.must(act(r, token))
				_, err := r.Session(r.t.Context(), token)
				r.refused(err, access.ErrNoSession)
				_, err = r.Session(r.t.Context(), root)
				r.must(err)
			})
		})
	}
}

func TestSomebodyDisabledCannotSignIn(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("vera", access.Viewer)
		_, err := r.SetDisabled(t.Context(), from(""), "vera", true)
		r.must(err)
		_, _, err = r.SignIn(t.Context(), from("192.0.2.7"), access.Attempt{Name: "vera", Password: good})
		r.refused(err, access.ErrWrongPassword)
		_, err = r.SetDisabled(t.Context(), from(""), "vera", false)
		r.must(err)
		r.signIn("vera")
		if got := r.trail(); !strings.HasSuffix(got, "user.disabled user.sign_in_failed user.enabled user.signed_in") {
			t.Errorf("the record: %s", got)
		}
	})
}

// attempt tries a wrong password and returns what came of it.
func (r *rig) attempt(name, ip string) error {
	_, _, err := r.SignIn(r.t.Context(), from(ip), access.Attempt{Name: name, Password: "wrong password!"})
	return err
}

func TestGuessingIsLockedOutEverLonger(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("vera", access.Viewer)
		other := r.another(access.Options{})
		for _, name := range []string{"vera", "no-such-user"} {
			for _, lock := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
				for range 5 {
					r.refused(r.attempt(name, "192.0.2.50"), access.ErrWrongPassword)
				}
				r.throttled(r.attempt(name, "192.0.2.50"), lock)
				// The right password does not help, and neither does another replica.
				_, _, err := other.SignIn(t.Context(), from("192.0.2.50"), access.Attempt{Name: name, Password: good})
				r.throttled(err, lock)
				r.pass(lock)
			}
		}
		r.signIn("vera") // from elsewhere
		r.refused(r.attempt("vera", "192.0.2.50"), access.ErrWrongPassword)
	})
}

func (r *rig) throttled(err error, want time.Duration) {
	r.t.Helper()
	var throttled *access.ThrottledError
	if !errors.As(err, &throttled) || throttled.RetryAfter != want {
		r.t.Fatalf("got %v, want a lock of %s", err, want)
	}
}

func TestNamesThatNoDatabaseTakesAreWrongOnes(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		for _, name := range []string{"", "a\x00", "\xff", strings.Repeat("x", 100_000), "' OR 1=1 --"} {
			r.refused(r.attempt(name, "192.0.2.8"), access.ErrWrongPassword)
		}
		_, err := r.SetRole(t.Context(), from(""), "a\x00", access.Viewer)
		r.refused(err, access.ErrNoUser)
	})
}

func TestTryingManyNamesIsLockedOutToo(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		for i := range 30 {
			r.refused(r.attempt("name"+string(rune('a'+i%26))+string(rune('a'+i/26)), "2001:db8::1"), access.ErrWrongPassword)
		}
		r.throttled(r.attempt("other", "2001:db8::2"), time.Minute) // the same network
		r.refused(r.attempt("other", "2001:db8:1::2"), access.ErrWrongPassword)
	})
}

func TestAGoodSignInStartsTheCountAnew(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("vera", access.Viewer)
		for range 12 { // an office behind one address
			for range 4 {
				r.refused(r.attempt("vera", "192.0.2.7"), access.ErrWrongPassword)
			}
			r.signIn("vera")
			r.pass(20 * time.Second)
		}
	})
}

func TestAttemptsAtOnceAreAllCounted(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("vera", access.Viewer)
		var wg sync.WaitGroup
		errs := make(chan error, 40)
		for range 40 {
			wg.Go(func() { errs <- r.attempt("vera", "192.0.2.50") })
		}
		wg.Wait()
		close(errs)
		judged := 0
		for err := range errs {
			var throttled *access.ThrottledError
			switch {
			case errors.Is(err, access.ErrWrongPassword):
				judged++
			case !errors.As(err, &throttled):
				t.Error(err)
			}
		}
		if judged != 5 {
			t.Errorf("%d passwords were tried", judged)
		}
	})
}

func TestAWrongOldPasswordIsCounted(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("vera", access.Viewer)
		for range 5 {
			_, err := r.ChangePassword(t.Context(), from("192.0.2.7"), "vera", "wrong password!", "another good one", "")
			r.refused(err, access.ErrWrongPassword)
		}
		_, err := r.ChangePassword(t.Context(), from("192.0.2.7"), "vera", good, "another good one", "")
		r.throttled(err, time.Minute)
	})
}

func TestTheRecordNeverNamesWhatWasTypedAsAName(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		r.add("vera", access.Viewer)
		r.refused(r.attempt("my-secret-password", "192.0.2.7"), access.ErrWrongPassword)
		var found int
		r.must(r.db.QueryRow(t.Context(), "SELECT count(*) FROM audit_log WHERE object LIKE $1 OR after LIKE $1", []any{"%my-secret%"}, &found))
		if found != 0 {
			t.Error("it does")
		}
	})
}

func TestDatabaseHoldsNoSecretInPlain(t *testing.T) {
	each(t, access.Options{}, func(r *rig) {
		ctx := t.Context()
		first, err := r.Bootstrap(ctx)
		r.must(err)
		r.add("root", access.Administrator)
		token, p := r.signIn("root")
		key, _, err := r.CreateKey(ctx, p, from(""), access.NewKey{Name: "k", Scopes: []access.Scope{access.Read}, Personal: true})
		r.must(err)
		secret := key[strings.LastIndex(key, "_")+1:]
		for _, query := range []string{
			"SELECT name || password_hash FROM users", "SELECT user_name || ip || browser FROM sessions", "SELECT id || name || scopes || created_by FROM api_keys",
			"SELECT actor || object || before || after || reason FROM audit_log", "SELECT subject FROM sign_in_limits",
		} {
			rows, err := r.db.Query(ctx, query)
			r.must(err)
			for rows.Next() {
				var text string
				r.must(rows.Scan(&text))
				for _, plain := range []string{token, secret, first, good} {
					if strings.Contains(text, plain) {
						t.Errorf("%s: %s", query, text)
					}
				}
			}
			rows.Close()
		}
		var hash []byte
		r.must(r.db.QueryRow(ctx, "SELECT hash FROM sessions", nil, &hash))
		if len(hash) != 32 || strings.Contains(string(hash), token) {
			t.Errorf("%x", hash)
		}
	})
}
