package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

func TestSigningInAndOut(t *testing.T) {
	t.Parallel()
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDoor(t, r.URL)
		d.everybody()
		got := d.form(caller{}, "/sign-in", "name", "Viewer", "password", password, "next", "/executions?status=failed")
		if got.status != http.StatusSeeOther || got.location != "/executions?status=failed" {
			t.Fatalf("%d to %s", got.status, got.location)
		}
		if set := got.header.Get("Set-Cookie"); !strings.HasPrefix(set, "agentfield=") || !strings.Contains(set, "path=/; HttpOnly; SameSite=Lax") ||
			strings.Contains(strings.ToLower(set), "secure") || strings.Contains(strings.ToLower(set), "domain") {
			t.Errorf("cookie %q", set)
		}
		who := caller{cookie: cookieOf(got)}
		page := d.ask(who, http.MethodGet, "/executions", "")
		if page.status != http.StatusOK || !strings.Contains(page.body, "Signed in as viewer") || page.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d %s", page.status, page.header)
		}
		if again := d.ask(who, http.MethodGet, "/sign-in?next=/audit", ""); again.status != http.StatusSeeOther || again.location != "/audit" {
			t.Errorf("signed in already: %d to %s", again.status, again.location)
		}
		out := d.form(who, "/sign-out")
		if out.status != http.StatusSeeOther || out.location != "/sign-in" || !strings.Contains(out.header.Get("Set-Cookie"), "max-age=0") && !strings.Contains(out.header.Get("Set-Cookie"), "expires=") {
			t.Errorf("%d to %s, %q", out.status, out.location, out.header.Get("Set-Cookie"))
		}
		if after := d.ask(who, http.MethodGet, "/executions", ""); after.status != http.StatusSeeOther || after.location != "/sign-in?next=%2Fexecutions" {
			t.Errorf("after signing out: %d to %s", after.status, after.location)
		}
	})
}

func TestACookieThatSomebodyChoseIsNeverTaken(t *testing.T) {
	t.Parallel()
	r := apptest.New(t)
	d := newDoor(t, r.URL)
	d.everybody()
	chosen := caller{cookie: "agentfield=" + strings.Repeat("a", 52)}
	got := d.ask(chosen, http.MethodPost, "/sign-in", url.Values{"name": {"viewer"}, "password": {password}}.Encode())
	if got.status != http.StatusSeeOther || cookieOf(got) == chosen.cookie {
		t.Fatalf("%d %q", got.status, cookieOf(got))
	}
	if page := d.ask(chosen, http.MethodGet, "/", ""); page.status != http.StatusSeeOther {
		t.Errorf("the chosen id opens a page: %d", page.status)
	}
}

func TestWhereASignInLeads(t *testing.T) {
	t.Parallel()
	r := apptest.New(t)
	d := newDoor(t, r.URL)
	who := d.everybody()[1]
	for next, want := range map[string]string{
		"": "/", "/": "/", "/runs?x=1&y=2": "/runs?x=1&y=2", "https://evil.example": "/", "//evil.example": "/", `/\evil.example`: "/", `\/evil.example`: "/",
		"javascript:alert(1)": "/", "/\t/evil.example": "/", "/sign-in?next=/sign-in": "/", "/sign-out": "/", "evil": "/", "/x\r\nSet-Cookie: a=b": "/",
	} {
		got := d.form(caller{}, "/sign-in", "name", "viewer", "password", password, "next", next)
		if got.location != want || len(got.header.Values("Set-Cookie")) != 1 {
			t.Errorf("next=%q leads to %q, want %q", next, got.location, want)
		}
		got = d.ask(who, http.MethodGet, "/sign-in?next="+url.QueryEscape(next), "")
		if got.location != want {
			t.Errorf("next=%q leads somebody who is signed in to %q, want %q", next, got.location, want)
		}
	}
}

func TestAFailedSignInTellsNothing(t *testing.T) {
	t.Parallel()
	r := apptest.New(t)
	d := newDoor(t, r.URL)
	d.everybody()
	r.Clock.Advance(2 * time.Minute) // the sign-ins above count no more
	try := func(name, secret string) reply {
		got := d.form(caller{}, "/sign-in", "name", name, "password", secret, "next", "/executions")
		got.body = strings.ReplaceAll(got.body, `"`+name+`"`, "NAME")
		if i := strings.Index(got.body, `data-now="`); i > 0 {
			got.body = got.body[:i] + got.body[i+24:]
		}
		return got
	}
	known, unknown := try("viewer", "wrong password!"), try("nobody", "wrong password!")
	if known.status != http.StatusUnauthorized || known.body != unknown.body || unknown.status != known.status {
		t.Errorf("a known name: %d, an unknown one: %d\n%s\n%s", known.status, unknown.status, known.body, unknown.body)
	}
	if !strings.Contains(known.body, "do not belong together") || !strings.Contains(known.body, `name="next" value="/executions"`) || strings.Contains(known.body, "wrong password!") ||
		known.header.Get("Set-Cookie") != "" {
		t.Errorf("the form: %s", known.body)
	}
	if hostile := try(`"><script>alert(1)</script>`, "x"); strings.Contains(hostile.body, "<script>alert") {
		t.Error("the name is not escaped")
	}
	for _, name := range []string{"viewer", "nobody"} {
		for range 4 {
			try(name, "wrong password!")
		}
		locked := try(name, password)
		if locked.status != http.StatusTooManyRequests || locked.header.Get("Retry-After") != "60" || !strings.Contains(locked.body, "Too many attempts") {
			t.Errorf("%s after five: %d %v", name, locked.status, locked.header)
		}
	}
}

func TestAnEndedSessionSendsEachKindOfRequestItsWay(t *testing.T) {
	t.Parallel()
	r := apptest.New(t)
	d := newDoor(t, r.URL)
	d.everybody()
	for _, c := range []struct {
		name, method, path string
		headers            []string
		status             int
		location, redirect string
	}{
		{"a page", "GET", "/executions?status=failed", []string{"Sec-Fetch-Dest", "document"}, 303, "/sign-in?next=%2Fexecutions%3Fstatus%3Dfailed", ""},
		{"a stream", "GET", "/events", []string{"Sec-Fetch-Dest", "empty"}, 401, "", ""},
		{"a fragment", "GET", "/executions/rows?ids=x", []string{"HX-Request", "true", "HX-Current-URL", r.URL + "/executions?node=a"}, 401, "", "/sign-in?next=%2Fexecutions%3Fnode%3Da"},
		{"a fragment of a foreign page", "GET", "/executions/rows", []string{"HX-Request", "true", "HX-Current-URL", "http://evil.example/x"}, 401, "", "/sign-in"},
		{"a form", "POST", "/executions/exec_x/cancel", []string{"Referer", r.URL + "/executions/exec_x"}, 303, "/sign-in?next=%2Fexecutions%2Fexec_x", ""},
		{"a form without a referrer", "POST", "/executions/exec_x/cancel", nil, 303, "/sign-in", ""},
	} {
		got := d.ask(caller{}, c.method, c.path, "", c.headers...)
		if got.status != c.status || got.location != c.location || got.header.Get("HX-Redirect") != c.redirect {
			t.Errorf("%s: %d to %q (htmx %q), want %d to %q (%q)", c.name, got.status, got.location, got.header.Get("HX-Redirect"), c.status, c.location, c.redirect)
		}
	}
}

func TestCookiesOnHTTPSBelongToThisHost(t *testing.T) {
	t.Parallel()
	r := apptest.New(t, func(c *config.Config) { c.PublicURL = "https://agents.example.org" })
	d := newDoor(t, r.URL)
	root := d.everybody()[4]
	if !strings.HasPrefix(root.cookie, "__Host-agentfield=") {
		t.Errorf("cookie %q", root.cookie)
	}
	got := d.form(caller{}, "/sign-in", "name", "viewer", "password", password)
	if set := got.header.Get("Set-Cookie"); !strings.Contains(set, "; secure; ") || !strings.Contains(set, "path=/;") {
		t.Errorf("cookie %q", set)
	}
	plain := caller{cookie: strings.TrimPrefix(root.cookie, "__Host-")}
	if got := d.ask(plain, http.MethodGet, "/", ""); got.status != http.StatusSeeOther {
		t.Errorf("the cookie without its prefix opens a page: %d", got.status)
	}
	if got := d.ask(root, http.MethodPost, "/theme", "theme=dark", "Origin", "https://agents.example.org"); got.status != http.StatusSeeOther {
		t.Errorf("a form of our own page behind a proxy: %d", got.status)
	}
}

func TestTheFirstAdminByTheAPIAndThePages(t *testing.T) {
	t.Parallel()
	r := apptest.New(t)
	d := newDoor(t, r.URL)
	if got := d.ask(caller{}, http.MethodGet, "/", ""); got.status != http.StatusOK || !strings.Contains(got.body, "Open without sign-in") {
		t.Errorf("an empty server: %d", got.status)
	}
	if got := d.ask(caller{}, http.MethodPost, "/api/v1/settings/users", `{"name":"x","role":"viewer","password":"`+password+`"}`); got.status != http.StatusConflict {
		t.Errorf("a viewer first: %d %s", got.status, got.body)
	}
	got := d.ask(caller{}, http.MethodPost, "/api/v1/settings/users", `{"name":"Root","role":"admin","groups":["a"],"password":"`+password+`"}`)
	if got.status != http.StatusCreated || !strings.Contains(got.body, `"name":"root"`) || strings.Contains(got.body, "argon2") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := d.ask(caller{}, http.MethodGet, "/api/v1/executions", ""); got.status != http.StatusUnauthorized {
		t.Errorf("still open: %d", got.status)
	}
	root := caller{cookie: d.signIn("root")}
	if got := d.ask(root, http.MethodGet, "/", ""); strings.Contains(got.body, "Open without sign-in") {
		t.Error("it still says that it is open")
	}
	root.key = d.makeKey(root, "me", "read", "admin")
	if got := d.ask(root, http.MethodGet, "/api/v1/settings/profile", ""); !strings.Contains(got.body, `"id":"user:root"`) || !strings.Contains(got.body, `"kind":"key"`) {
		t.Errorf("%s", got.body)
	}
	for _, c := range []struct{ ask, body, says string }{
		{"/api/v1/settings/users", `{"name":"rex","role":"reviewer","password":"` + password + `"}`, `"role":"reviewer"`},
		{"/api/v1/settings/users/rex/role", `{"role":"operator"}`, `"role":"operator"`},
		{"/api/v1/settings/users/rex/groups", `{"groups":["b","A"]}`, `"groups":["a","b"]`},
		{"/api/v1/settings/users/rex/password", `{"password":"another good one"}`, `"name":"rex"`},
		{"/api/v1/settings/users/rex/disable", `{}`, `"disabled":true`},
		{"/api/v1/settings/users/rex/enable", ``, `"disabled":false`},
		{"/api/v1/settings/users/nobody/enable", ``, `"code":"user_not_found"`},
		{"/api/v1/settings/users/root/role", `{"role":"viewer"}`, `"code":"user_conflict"`},
		{"/api/v1/settings/users/rex/role", `{"role":"king"}`, `"code":"invalid_parameter"`},
		{"/api/v1/settings/api-keys", `{"name":"k","scopes":["agent","approve"]}`, `agents never approve`},
		{"/api/v1/settings/api-keys", `{"name":"k","scopes":["read"],"expires_in_seconds":3600}`, `"key":"af_`},
		{"/api/v1/settings/api-keys/aaaaaaaaaaaaaaaa/revoke", ``, `"code":"key_not_found"`},
	} {
		if got := d.ask(root, http.MethodPost, c.ask, c.body); !strings.Contains(got.body, c.says) {
			t.Errorf("%s %s: %d %s", c.ask, c.body, got.status, got.body)
		}
	}
	for path, says := range map[string]string{
		"/api/v1/settings/users": `{"users":[{"name":"rex"`, "/api/v1/settings/api-keys": `"scopes":["admin","read"]`,
		"/api/v1/audit?action=user&limit=2": `"next_cursor":"`, "/api/v1/audit/verify": `"ok":true`, "/api/v1/audit.ndjson": `"action":"audit.exported"`,
		"/api/v1/audit.csv?actor=user:root": "id,at,actor", "/api/v1/audit?since=x": `"code":"invalid_parameter"`, "/api/v1/audit/verify?anchor=x": `"code":"invalid_parameter"`,
		"/api/v1/audit?cursor=x": `"code":"invalid_cursor"`,
	} {
		if got := d.ask(root, http.MethodGet, path, ""); !strings.Contains(got.body, says) {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

func TestSettingsWorkWithoutScript(t *testing.T) {
	t.Parallel()
	r := apptest.New(t)
	d := newDoor(t, r.URL)
	all := d.everybody()
	viewer, root := all[1], all[4]
	if got := d.form(viewer, "/settings/api-keys", "name", "k", "scopes", "execute", "for", "me"); got.status != http.StatusForbidden || !strings.Contains(got.body, "needs the right &#34;execute&#34;") {
		t.Errorf("more than oneself may: %d", got.status)
	}
	if got := d.form(viewer, "/settings/api-keys", "name", "", "scopes", "read", "for", "me"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "A key needs a name") {
		t.Errorf("no name: %d", got.status)
	}
	keys := d.ask(viewer, http.MethodGet, "/settings/api-keys", "").body
	if strings.Count(keys, `id="key-`) != 1 || strings.Contains(keys, `value="service"`) || strings.Contains(keys, `href="/settings/users"`) || strings.Contains(keys, `href="/audit"`) {
		t.Errorf("a viewer's keys: %s", keys)
	}
	id := strings.Split(viewer.key, "_")[1]
	if got := d.form(viewer, "/settings/api-keys/"+id+"/revoke"); got.status != http.StatusSeeOther {
		t.Errorf("revoke: %d", got.status)
	}
	if got := d.ask(viewer, http.MethodGet, "/api/v1/executions", ""); got.status != http.StatusUnauthorized {
		t.Errorf("a revoked key: %d", got.status)
	}
	wrong := d.form(viewer, "/settings/profile/password", "old", "not it at all", "password", "another good one")
	if wrong.status != http.StatusUnprocessableEntity || !strings.Contains(wrong.body, "current password is not right") {
		t.Errorf("a wrong old password: %d", wrong.status)
	}
	changed := d.form(viewer, "/settings/profile/password", "old", password, "password", "another good one")
	if changed.status != http.StatusSeeOther || cookieOf(changed) == viewer.cookie || cookieOf(changed) == "" {
		t.Errorf("the password: %d %q", changed.status, cookieOf(changed))
	}
	if got := d.ask(viewer, http.MethodGet, "/settings/profile", ""); got.status != http.StatusSeeOther {
		t.Errorf("the old session goes on: %d", got.status)
	}
	if got := d.ask(caller{cookie: cookieOf(changed)}, http.MethodGet, changed.location, ""); !strings.Contains(got.body, "The password is changed") || strings.Count(got.body, "this one") != 1 {
		t.Errorf("the new session: %d", got.status)
	}
	if got := d.form(root, "/settings/users", "name", "a b", "role", "viewer", "password", password); got.status != http.StatusUnprocessableEntity ||
		!strings.Contains(got.body, "A name has 1 to 64") || !strings.Contains(got.body, `value="a b"`) {
		t.Errorf("a bad name: %d", got.status)
	}
	if got := d.form(root, "/settings/users/admin/disable"); got.status != http.StatusConflict || !strings.Contains(got.body, "the last admin") {
		t.Errorf("the last admin: %d", got.status)
	}
	if got := d.form(root, "/settings/users/viewer/disable"); got.status != http.StatusSeeOther {
		t.Errorf("disable: %d", got.status)
	}
	log := d.ask(root, http.MethodGet, "/audit?action=user.disabled&verify=1", "").body
	if !strings.Contains(log, "user disabled") || !strings.Contains(log, "entries are as they were written") || strings.Contains(log, "user created") {
		t.Errorf("%s", log)
	}
	if got := d.ask(root, http.MethodGet, "/audit?since=yesterday", ""); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "RFC 3339") {
		t.Errorf("a bad filter: %d", got.status)
	}
}

func TestAgentsCannotApproveWithoutCredentialsEither(t *testing.T) {
	t.Parallel()
	r := apptest.New(t)
	d := newDoor(t, r.URL)
	const ask = "/api/v1/webhooks/approval"
	body := `{"approval_request_id":"none","decision":"approved"}`
	if got := d.ask(caller{}, http.MethodPost, ask, body); got.status == http.StatusForbidden || got.status == http.StatusUnauthorized {
		t.Errorf("the documented curl: %d %s", got.status, got.body)
	}
	for _, header := range []string{"X-Execution-Token", "X-Node-Token", "X-Caller-Agent-ID", "X-Agent-Node-ID", "X-Parent-Execution-ID"} {
		got := d.ask(caller{}, http.MethodPost, ask, body, header, "x")
		if got.status != http.StatusForbidden || !strings.Contains(got.body, `the right \"approve\"`) {
			t.Errorf("with %s: %d %s", header, got.status, got.body)
		}
	}
}
