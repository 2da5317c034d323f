package api_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentfield/agentfield/api"
	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/apptest"
)

// routesOnly is a server that shows its routes: none of them is called.
func routesOnly() *api.Server {
	return api.New(api.Options{Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), BodyLimit: 1 << 20})
}

const password = "correct horse battery"

// caller is somebody at the door: a browser with a cookie, a program with a key, or nobody.
type caller struct {
	name   string
	cookie string
	key    string
	scopes []access.Scope
}

// reply is an answer without the body of a stream.
type reply struct {
	status   int
	location string
	header   http.Header
	body     string
}

// door asks a server as a caller.
type door struct {
	t    *testing.T
	base string
	http *http.Client
}

func newDoor(t *testing.T, base string) *door {
	d := &door{t: t, base: base, http: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(d.http.CloseIdleConnections)
	return d
}

// ask sends a request; headers come in pairs. A body for the API is JSON, one for pages a form.
func (d *door) ask(who caller, method, path, body string, headers ...string) reply {
	d.t.Helper()
	request, err := http.NewRequestWithContext(d.t.Context(), method, d.base+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if !strings.HasPrefix(path, "/api/") {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if who.cookie != "" {
		request.Header.Set("Cookie", who.cookie)
	}
	if who.key != "" {
		request.Header.Set("X-API-Key", who.key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := d.http.Do(request)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = response.Body.Close() }()
	got := reply{status: response.StatusCode, location: response.Header.Get("Location"), header: response.Header}
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		text, err := io.ReadAll(response.Body)
		if err != nil {
			d.t.Fatalf("%s %s: %v", method, path, err)
		}
		got.body = string(text)
	}
	return got
}

// form posts a form as a browser does.
func (d *door) form(who caller, path string, fields ...string) reply {
	d.t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		values.Add(fields[i], fields[i+1])
	}
	return d.ask(who, http.MethodPost, path, values.Encode(), "Sec-Fetch-Site", "same-origin", "Origin", d.base)
}

func (d *door) signIn(name string) string {
	d.t.Helper()
	got := d.form(caller{}, "/sign-in", "name", name, "password", password)
	if got.status != http.StatusSeeOther {
		d.t.Fatalf("%s cannot sign in: %d %s", name, got.status, got.body)
	}
	return cookieOf(got)
}

func cookieOf(r reply) string {
	cookie, _, _ := strings.Cut(r.header.Get("Set-Cookie"), ";")
	return cookie
}

var shownKey = regexp.MustCompile(`af_[a-z2-7]{16}_[a-z2-7]{52}`)

func (d *door) makeKey(who caller, holder string, scopes ...access.Scope) string {
	d.t.Helper()
	fields := []string{"name", "test", "for", holder, "expires_in_days", "30"}
	for _, s := range scopes {
		fields = append(fields, "scopes", string(s))
	}
	got := d.form(who, "/settings/api-keys", fields...)
	key := shownKey.FindString(got.body)
	if got.status != http.StatusCreated || key == "" {
		d.t.Fatalf("no key for %v: %d %s", scopes, got.status, got.body)
	}
	return key
}

// everybody makes people of all roles and keys of all kinds on an empty server, which demands credentials from then on.
func (d *door) everybody() []caller {
	d.t.Helper()
	if got := d.form(caller{}, "/settings/users", "name", "admin", "role", "admin", "password", password); got.status != http.StatusSeeOther {
		d.t.Fatalf("the first user: %d %s", got.status, got.body)
	}
	root := caller{cookie: d.signIn("admin")}
	all := []caller{{name: "nobody"}}
	for _, role := range access.Roles() {
		name := string(role)
		if role != access.Administrator {
			if got := d.form(root, "/settings/users", "name", name, "role", name, "password", password); got.status != http.StatusSeeOther {
				d.t.Fatalf("add %s: %d %s", name, got.status, got.body)
			}
		}
		who := caller{name: name, cookie: d.signIn(name), scopes: role.Scopes()}
		who.key = d.makeKey(who, "me", role.Scopes()...)
		all = append(all, who)
	}
	for _, scope := range []access.Scope{access.Agent, access.Execute, access.Read, access.Approve} {
		all = append(all, caller{name: string(scope) + " key", key: d.makeKey(root, "service", scope), scopes: []access.Scope{scope}})
	}
	return all
}

// example is the address of a route with ids that nothing has.
func example(path string) string {
	return strings.NewReplacer(
		":target", "none.none", ":id", "exec_none", ":name", "nobody", ":key", "aaaaaaaaaaaaaaaa", ":node", "none", "*", "app.css",
	).Replace(path)
}

// TestEveryRouteForEverybody is the whole policy: each route, asked by each caller, by the way that is theirs and by the other.
func TestEveryRouteForEverybody(t *testing.T) {
	t.Parallel()
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDoor(t, r.URL)
		all, routes := d.everybody(), routesOnly()
		asked := 0
		for i := range all {
			for _, route := range slices.Concat(routes.Machine(), routes.Shared()) {
				d.asProgram(all[i], route)
				asked++
			}
			for _, route := range slices.Concat(routes.Human(), routes.Shared()) {
				d.asBrowser(&all[i], route)
				asked++
			}
			for _, route := range routes.Open() {
				if got := d.ask(caller{key: all[i].key}, route.Method, route.Path, ""); got.status != http.StatusOK {
					t.Errorf("%s asks %s: %d", all[i].name, route.Path, got.status)
				}
				asked++
			}
		}
		t.Logf("%d callers, %d requests", len(all), asked)
		for _, role := range access.Roles() { // nothing above has ended what it should not
			if d.signIn(string(role)) == "" {
				t.Errorf("%s cannot sign in any more", role)
			}
		}
	})
}

var gateCode = regexp.MustCompile(`"code":"(unauthorized|forbidden)"`)

// asProgram asks by the API. Its cookie is sent along and must not matter.
func (d *door) asProgram(who caller, route api.Route) {
	d.t.Helper()
	got := d.ask(who, route.Method, "/api/v1"+example(route.Path), "{}")
	refused := ""
	if m := gateCode.FindStringSubmatch(got.body); m != nil && (got.status == http.StatusUnauthorized || got.status == http.StatusForbidden) {
		refused = m[1]
	}
	want := ""
	switch {
	case route.Scope == access.Public || slices.Contains(who.scopes, route.Scope):
	case who.key == "":
		want = "unauthorized"
	default:
		want = "forbidden"
		if !strings.Contains(got.body, fmt.Sprintf(`the right \"%s\"`, route.Scope)) {
			d.t.Errorf("%s asks %s %s: %s does not name the right %q", who.name, route.Method, route.Path, got.body, route.Scope)
		}
	}
	if refused != want {
		d.t.Errorf("%s asks %s %s (%s) by the API: %d %q, want %q: %s", who.name, route.Method, route.Path, route.Scope, got.status, refused, want, got.body)
	}
}

// asBrowser asks for a page. Its key is sent along and must not matter.
func (d *door) asBrowser(who *caller, route api.Route) {
	d.t.Helper()
	path := example(route.Path)
	got := d.ask(*who, route.Method, path, "", "Sec-Fetch-Site", "same-origin")
	toSignIn := got.status == http.StatusSeeOther && strings.HasPrefix(got.location, "/sign-in")
	forbidden := got.status == http.StatusForbidden && strings.Contains(got.body, "This needs the right")
	if strings.Contains(path, "sign-out") { // the one page whose work is to lead there
		if !toSignIn {
			d.t.Errorf("%s asks %s: %d to %s", who.name, path, got.status, got.location)
		}
		if who.cookie != "" {
			who.cookie = d.signIn(who.name)
		}
		return
	}
	switch {
	case route.Scope == access.Public || who.cookie != "" && slices.Contains(who.scopes, route.Scope):
		if toSignIn || forbidden {
			d.t.Errorf("%s asks for the page %s %s (%s): refused with %d to %s", who.name, route.Method, path, route.Scope, got.status, got.location)
		}
	case who.cookie == "":
		next := "/sign-in?next=" + url.QueryEscape(path)
		if !toSignIn || route.Method == http.MethodGet && path != "/" && path != "/settings" && got.location != next {
			d.t.Errorf("%s asks for the page %s %s: %d to %q, want %q", who.name, route.Method, path, got.status, got.location, next)
		}
	case !forbidden || !strings.Contains(got.body, "&#34;"+string(route.Scope)+"&#34;"):
		d.t.Errorf("%s asks for the page %s %s: %d without the right %q", who.name, route.Method, path, got.status, route.Scope)
	}
}

// TestNoForeignPageMovesASession sends what browsers send for a form or a script on another site, with the cookie of an admin.
func TestNoForeignPageMovesASession(t *testing.T) {
	t.Parallel()
	r := apptest.New(t)
	d := newDoor(t, r.URL)
	root := d.everybody()[4]
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"},
		{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Sec-Fetch-Site", "cross-site", "Content-Type", "text/plain", "HX-Request", "true"},
	} {
		for _, route := range slices.Concat(routesOnly().Human(), routesOnly().Shared()) {
			if route.Method == http.MethodGet {
				continue
			}
			got := d.ask(root, route.Method, example(route.Path), "", headers...)
			if got.status != http.StatusForbidden || !strings.Contains(got.body, "cross_origin") {
				t.Errorf("%v: %s %s answered %d", headers, route.Method, route.Path, got.status)
			}
		}
	}
	if got := d.ask(root, http.MethodGet, "/settings/profile", "", "Sec-Fetch-Site", "none"); got.status != http.StatusOK {
		t.Errorf("the session has ended: %d", got.status)
	}
}
