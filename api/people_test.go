package api_test

import (
	"net/http"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestPeopleKeysAndTheRecordAnswerAsDescribed(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		// As long as nobody can sign in, whoever is on this machine may do everything.
		first := r.Do(t, http.MethodPost, "/api/v1/settings/api-keys", `{"name":"admin","scopes":["read","execute","operate","admin"]}`)
		admin := []string{"X-API-Key", first.Text("key")}
		made := scenario{
			ask: "POST /api/v1/settings/api-keys", body: `{"name":"reader","scopes":["read"],"expires_in_seconds":3600}`, header: admin, status: http.StatusCreated,
			must: map[string]string{"id": some, "key": "^af_", "scopes": `["read"]`, "expires_at": instant, "user": ""},
		}.run(t, r)
		reader := []string{"X-API-Key", made.Text("key")}
		const users = "/api/v1/settings/users"
		runAll(t, r, []scenario{
			{name: "the reader reads", ask: "GET /api/v1/executions", header: reader, status: http.StatusOK},
			{name: "and does no more", ask: "POST /api/v1/execute/demo.echo", body: `{}`, header: reader, status: http.StatusForbidden, must: map[string]string{"code": "forbidden", "error": "forbidden"}, row: "none"},
			{name: "nor looks after people", ask: "GET " + users, header: reader, status: http.StatusForbidden, must: map[string]string{"code": "forbidden"}},
			{name: "who am I", ask: "GET /api/v1/settings/profile", header: reader, status: http.StatusOK, must: map[string]string{"scopes": `["read"]`, "kind": "key"}},
			{name: "a scope that is none", ask: "POST /api/v1/settings/api-keys", body: `{"name":"x","scopes":["all"]}`, header: admin, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "the first is an admin", ask: "POST " + users, body: `{"name":"bob","role":"viewer","password":"correct horse battery staple"}`, header: admin, status: http.StatusConflict, must: map[string]string{"code": "user_conflict"}},
			{name: "create", ask: "POST " + users, body: `{"name":"Alice","display_name":"Alice A.","role":"admin","password":"correct horse battery staple"}`, header: admin, status: http.StatusCreated, must: map[string]string{"name": "alice", "role": "admin", "groups": "[]", "disabled": "false"}},
			{name: "another", ask: "POST " + users, body: `{"name":"bob","role":"viewer","password":"correct horse battery staple"}`, header: admin, status: http.StatusCreated},
			{name: "twice", ask: "POST " + users, body: `{"name":"BOB","role":"viewer","password":"correct horse battery staple"}`, header: admin, status: http.StatusConflict, must: map[string]string{"code": "user_conflict"}},
			{name: "a weak password", ask: "POST " + users, body: `{"name":"eve","role":"viewer","password":"1234"}`, header: admin, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "role", ask: "POST " + users + "/bob/role", body: `{"role":"reviewer"}`, header: admin, status: http.StatusOK, must: map[string]string{"role": "reviewer"}},
			{name: "the last admin stays", ask: "POST " + users + "/alice/role", body: `{"role":"viewer"}`, header: admin, status: http.StatusConflict, must: map[string]string{"code": "user_conflict"}},
			{name: "groups", ask: "POST " + users + "/bob/groups", body: `{"groups":["finance"]}`, header: admin, status: http.StatusOK, must: map[string]string{"groups": `["finance"]`}},
			{name: "password", ask: "POST " + users + "/bob/password", body: `{"password":"another horse battery staple"}`, header: admin, status: http.StatusOK},
			{name: "disable", ask: "POST " + users + "/bob/disable", header: admin, status: http.StatusOK, must: map[string]string{"disabled": "true"}},
			{name: "enable", ask: "POST " + users + "/bob/enable", header: admin, status: http.StatusOK, must: map[string]string{"disabled": "false"}},
			{name: "nobody", ask: "POST " + users + "/nobody/enable", header: admin, status: http.StatusNotFound, must: map[string]string{"code": "user_not_found"}},
			{name: "a name that cannot be", ask: "POST " + users + "/a%00b/enable", header: admin, status: http.StatusNotFound, must: map[string]string{"code": "user_not_found"}},
			{name: "list", ask: "GET " + users, header: admin, status: http.StatusOK, must: map[string]string{"users/0/name": "alice", "users/1/name": "bob"}},
			{name: "keys", ask: "GET /api/v1/settings/api-keys", header: admin, status: http.StatusOK, must: map[string]string{"keys/0/name": "reader", "keys/0/last_used_at": instant, "keys/0/key": ""}},
			{name: "revoke", ask: "POST /api/v1/settings/api-keys/" + made.Text("id") + "/revoke", header: admin, status: http.StatusOK, must: map[string]string{"revoked_at": instant}},
			{name: "revoke nothing", ask: "POST /api/v1/settings/api-keys/nothing/revoke", header: admin, status: http.StatusNotFound, must: map[string]string{"code": "key_not_found"}},
			{name: "a revoked key", ask: "GET /api/v1/executions", header: reader, status: http.StatusUnauthorized, must: map[string]string{"code": "unauthorized"}},
			{name: "the record", ask: "GET /api/v1/audit?limit=1&action=user.created", header: admin, status: http.StatusOK, must: map[string]string{"entries/0/object": "bob", "entries/0/actor": some, "next_cursor": some}},
			{name: "the record with a foreign cursor", ask: "GET /api/v1/audit?cursor=x", header: admin, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_cursor"}},
			{name: "as CSV", ask: "GET /api/v1/audit.csv", header: admin, status: http.StatusOK, says: "user.created"},
			{name: "as lines", ask: "GET /api/v1/audit.ndjson?since=1h", header: admin, status: http.StatusOK, says: `"action":"user.created"`},
			{name: "verified", ask: "GET /api/v1/audit/verify", header: admin, status: http.StatusOK, must: map[string]string{"ok": "true", "head": some}},
			{name: "with an anchor that is none", ask: "GET /api/v1/audit/verify?anchor=x", header: admin, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
		})
	})
}
