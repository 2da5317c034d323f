package api

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/memory"
	"github.com/agentfield/agentfield/models"
)

// memoryRoutes are the values that agents share. Vectors and change events are not served: their paths are unknown ones.
func (s *Server) memoryRoutes() []Route {
	return []Route{
		{"POST", "/memory/set", access.Agent, ofMemory(s.setMemory)},
		{"POST", "/memory/get", access.Agent, ofMemory(s.getMemory)},
		{"POST", "/memory/delete", access.Agent, ofMemory(s.deleteMemory)},
		{"GET", "/memory/list", access.Agent, ofMemory(s.listMemory)},
	}
}

// ofMemory gives errors the form that clients of this area know (wire.md 1.5): a word in error, the HTTP status as a number in code.
func ofMemory(handler fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		err := handler(c)
		if err == nil {
			return nil
		}
		f := *asFailure(memoryFailure(err))
		word := f.code
		switch {
		case f.code == "internal_error":
			word = "storage_error"
		case f.status == fiber.StatusBadRequest:
			word = "invalid_request"
		}
		o := newObject(256)
		o.text("error", word)
		o.number("code", int64(f.status))
		o.text("message", f.details)
		o.text("details", f.details)
		if f.maxBytes > 0 {
			o.number("max_bytes", int64(f.maxBytes))
		}
		f.body = o.end()
		return &f
	}
}

func memoryFailure(err error) error {
	switch {
	case errors.Is(err, memory.ErrNotFound):
		return &failure{status: fiber.StatusNotFound, code: "not_found", details: err.Error()}
	case errors.Is(err, memory.ErrConflict):
		return &failure{status: fiber.StatusPreconditionFailed, code: "version_conflict", details: err.Error()}
	case errors.Is(err, memory.ErrTooLarge):
		return &failure{status: fiber.StatusRequestEntityTooLarge, code: "payload_too_large", details: err.Error(), maxBytes: 1 << 20}
	case errors.Is(err, memory.ErrBadKey):
		return badRequest("invalid_request", "%s", err)
	}
	return err
}

// reach are the scopes that a request may touch. The id of a workflow is the name by which the run is known everywhere; callers see
// the one that they have sent.
type reach struct {
	ids  map[string]string // by scope
	sent string            // id of the workflow
}

// scopeHeaders carry the ids of the scopes.
func scopeHeaders() map[string]string {
	return map[string]string{memory.Workflow: "X-Workflow-ID", memory.Session: "X-Session-ID", memory.Actor: "X-Actor-ID"}
}

// reach reads the headers. With an execution's token the scopes are those of that execution, and other ids are refused.
func (s *Server) reach(c *fiber.Ctx) (reach, error) {
	r := reach{ids: map[string]string{memory.Global: memory.Global}}
	for scope, name := range scopeHeaders() {
		id := c.Get(name)
		if err := opaque(name, id); err != nil {
			return r, err
		}
		if id != "" {
			r.ids[scope] = id
		}
	}
	token, id := c.Get("X-Execution-Token"), c.Get("X-Execution-ID")
	if err := opaque("X-Execution-ID", id); err != nil {
		return r, err
	}
	if token != "" && id == "" {
		return r, badRequest("invalid_request", "name the execution of the token in the header X-Execution-ID")
	}
	if err := s.Executions.Vouched(token, id); err != nil {
		return r, err
	}
	if token != "" {
		row, err := s.Executions.Row(c.UserContext(), id)
		if err != nil {
			return r, err
		}
		if err := r.within(row); err != nil {
			return r, err
		}
	}
	r.sent = r.ids[memory.Workflow]
	if r.sent == "" {
		return r, nil
	}
	name, err := s.Executions.WorkflowName(c.UserContext(), r.sent)
	r.ids[memory.Workflow] = name
	return r, err
}

// within narrows the reach to what belongs to an execution.
func (r *reach) within(row *models.Execution) error {
	own := map[string][]string{memory.Workflow: {row.Workflow(), row.RunID}}
	if row.SessionID != nil {
		own[memory.Session] = []string{*row.SessionID}
	}
	if row.ActorID != nil {
		own[memory.Actor] = []string{*row.ActorID}
	}
	for scope, name := range scopeHeaders() {
		ids, given := own[scope], r.ids[scope]
		switch {
		case given == "" && len(ids) > 0:
			r.ids[scope] = ids[0]
		case given != "" && !slices.Contains(ids, given):
			return &failure{status: fiber.StatusForbidden, code: "scope_forbidden", details: "the execution of the token does not belong to this " + name}
		}
	}
	return nil
}

// one is the scope that a word names, or, without a word, the narrowest that the request has.
func (r *reach) one(kind string) (memory.Scope, error) {
	if kind == "" {
		for _, kind := range memory.Scopes() {
			if id := r.ids[kind]; id != "" {
				return memory.Scope{Kind: kind, ID: id}, nil
			}
		}
	}
	if !memory.Known(kind) {
		return memory.Scope{}, badRequest("invalid_request", "scope must be one of %s", strings.Join(memory.Scopes(), ", "))
	}
	return memory.Scope{Kind: kind, ID: r.ids[kind]}, nil
}

// some are the scopes in which a key is looked for: the one that a word names, or all that the request has, from the narrowest on.
func (r *reach) some(kind string) ([]memory.Scope, error) {
	if kind != "" {
		scope, err := r.one(kind)
		return []memory.Scope{scope}, err
	}
	var scopes []memory.Scope
	for _, kind := range memory.Scopes() {
		if id := r.ids[kind]; id != "" {
			scopes = append(scopes, memory.Scope{Kind: kind, ID: id})
		}
	}
	return scopes, nil
}

// memoryAsk is what all of these requests may say.
type memoryAsk struct {
	Key   string          `json:"key"`
	Data  json.RawMessage `json:"data"`
	Scope string          `json:"scope"`
}

func (s *Server) askOfMemory(c *fiber.Ctx) (memoryAsk, reach, error) {
	var ask memoryAsk
	if err := bind(c, &ask, false); err != nil {
		return ask, reach{}, err
	}
	r, err := s.reach(c)
	return ask, r, err
}

// expected reads If-Match: the version that a writer has seen, 0 for "nothing yet".
func expected(c *fiber.Ctx) (int64, error) {
	tag := strings.Trim(c.Get(fiber.HeaderIfMatch), `"`)
	if tag == "" || tag == "*" {
		return memory.Any, nil
	}
	version, err := strconv.ParseInt(tag, 10, 64)
	if err != nil || version < 0 {
		return 0, badRequest("invalid_request", "If-Match must hold the version of an answer, or 0 when there must be nothing yet")
	}
	return version, nil
}

func (s *Server) setMemory(c *fiber.Ctx) error {
	ask, r, err := s.askOfMemory(c)
	if err != nil {
		return err
	}
	data := present(ask.Data)
	if data == nil {
		return badRequest("invalid_request", "data is missing or null: send a JSON value, or delete the key")
	}
	scope, err := r.one(ask.Scope)
	if err != nil {
		return err
	}
	version, err := expected(c)
	if err != nil {
		return err
	}
	node := c.Get("X-Agent-Node-ID")
	if err := opaque("X-Agent-Node-ID", node); err != nil {
		return err
	}
	m, err := s.Memory.Set(c.UserContext(), scope, ask.Key, string(data), node, version)
	if err != nil {
		return err
	}
	return sendJSON(c, fiber.StatusOK, r.json(&m))
}

func (s *Server) getMemory(c *fiber.Ctx) error {
	ask, r, err := s.askOfMemory(c)
	if err != nil {
		return err
	}
	scopes, err := r.some(ask.Scope)
	if err != nil {
		return err
	}
	m, err := s.Memory.Find(c.UserContext(), scopes, ask.Key)
	if err != nil {
		return err
	}
	return sendJSON(c, fiber.StatusOK, r.json(&m))
}

func (s *Server) deleteMemory(c *fiber.Ctx) error {
	ask, r, err := s.askOfMemory(c)
	if err != nil {
		return err
	}
	scope, err := r.one(ask.Scope)
	if err != nil {
		return err
	}
	version, err := expected(c)
	if err != nil {
		return err
	}
	if err := s.Memory.Delete(c.UserContext(), scope, ask.Key, version); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// listMemory answers with a page; after=<last key> gives the next one, until one is empty.
func (s *Server) listMemory(c *fiber.Ctx) error {
	r, err := s.reach(c)
	if err != nil {
		return err
	}
	scope, err := r.one(c.Query("scope"))
	if err != nil {
		return err
	}
	page, err := s.Memory.List(c.UserContext(), scope, strings.Clone(c.Query("after")))
	if err != nil {
		return err
	}
	items := make([]json.RawMessage, len(page))
	for i := range page {
		items[i] = r.json(&page[i])
	}
	body, err := json.Marshal(items)
	if err != nil {
		return err
	}
	return sendJSON(c, fiber.StatusOK, body)
}

// json is a value as clients see it (wire.md 3.13), with its version besides.
func (r *reach) json(m *models.Memory) []byte {
	id := m.ScopeID
	if m.Scope == memory.Workflow && r.sent != "" {
		id = r.sent
	}
	about := fiber.Map{}
	if m.NodeID != nil {
		about["agent_id"] = *m.NodeID
	}
	o := newObject(256 + len(m.Data))
	o.text("scope", m.Scope)
	o.text("scope_id", id)
	o.text("key", m.Key)
	o.raw("data", []byte(m.Data))
	o.number("version", m.Version)
	o.text("access_level", "")
	o.instant("created_at", m.CreatedAt)
	o.instant("updated_at", m.UpdatedAt)
	o.value("metadata", about)
	return o.end()
}
