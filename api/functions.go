package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/desk"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/node"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/functions"
	"github.com/agentfield/agentfield/views/layout"
	nodeviews "github.com/agentfield/agentfield/views/nodes"
	"github.com/agentfield/agentfield/views/values"
)

// functionRoutes show what agents can be called for.
func (s *Server) functionRoutes() []Route {
	return []Route{
		{"GET", "/reasoners/:target", access.Read, s.showFunction},
	}
}

// functionPages are those of the pages only: programs find functions by discovery, and call them by execute.
func (s *Server) functionPages() []Route {
	return []Route{
		{"GET", "/reasoners", access.Read, s.listFunctions},
		{"POST", "/reasoners/:target/try", access.Execute, s.tryFunction},
		{"POST", "/reasoners/:target/try/draft", access.Execute, s.saveTryDraft},
	}
}

func (s *Server) listFunctions(c *fiber.Ctx) error {
	list, err := s.Nodes.List(c.UserContext(), node.ListQuery{ShowAll: true})
	if err != nil {
		return err
	}
	p := functions.ListPage{Frame: s.frame(c, "Reasoners", "reasoners", layout.Crumb{Label: "Reasoners"}), Node: c.Query("node"), Query: c.Query("q")}
	p.Frame.Assets = []string{"functions.css"}
	for _, a := range list.Nodes {
		n := viewOfNode(a, execution.Load{}, node.AllLimits{})
		for _, f := range n.Functions {
			p.All++
			e := functions.Entry{NodeID: n.ID, State: n.State, Function: f}
			if (p.Node == "" || p.Node == n.ID) && e.Has(p.Query) {
				p.Entries = append(p.Entries, e)
			}
		}
	}
	slices.SortFunc(p.Entries, func(a, b functions.Entry) int { return strings.Compare(a.Target(), b.Target()) })
	return page(c, fiber.StatusOK, functions.List(p))
}

// known is a registered function, with what its pages and its JSON tell of it.
type known struct {
	entry functions.Entry
	raw   node.FunctionJSON
}

func (s *Server) knownFunction(c *fiber.Ctx) (known, error) {
	ctx := c.UserContext()
	nodeID, name, err := node.ParseTarget(c.Params("target"))
	if err != nil {
		return known{}, &failure{status: fiber.StatusNotFound, code: "target_not_found", title: "Target not found", details: "write the target as node.function"}
	}
	if _, err := s.Nodes.Lookup(ctx, nodeID, name); err != nil {
		return known{}, err
	}
	a, err := s.Nodes.Get(ctx, nodeID, "")
	if err != nil {
		return known{}, nodeNotFound(err)
	}
	n := viewOfNode(a, execution.Load{}, node.AllLimits{})
	k := known{entry: functions.Entry{NodeID: nodeID, State: n.State}}
	if i := slices.IndexFunc(n.Functions, func(f nodeviews.Function) bool { return f.Name == name }); i >= 0 {
		k.entry.Function = n.Functions[i]
	}
	if i := slices.IndexFunc(append(a.Reasoners, a.Skills...), func(f node.FunctionJSON) bool { return f.ID == name }); i >= 0 {
		k.raw = append(a.Reasoners, a.Skills...)[i]
	}
	return k, nil
}

// usage is how a function has done within the time that the address names, 24 hours when it names none.
func (s *Server) usage(c *fiber.Ctx, k known) (u execution.Usage, within string, since int64, err error) {
	within = c.Query("since", "24h")
	if since, err = instantParam("since", within, s.Now()); err != nil {
		return u, within, since, err
	}
	u, err = s.Executions.UsageOf(c.UserContext(), k.entry.NodeID, k.entry.Function.Name, since)
	return u, within, since, err
}

// showFunction answers GET /reasoners/{node}.{function}.
func (s *Server) showFunction(c *fiber.Ctx) error {
	k, err := s.knownFunction(c)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return s.functionJSON(c, k)
	}
	t, err := s.prefilled(c, k)
	if err != nil {
		return err
	}
	return s.functionPage(c, fiber.StatusOK, k, t)
}

func (s *Server) functionJSON(c *fiber.Ctx, k known) error {
	u, _, since, err := s.usage(c, k)
	if err != nil {
		return err
	}
	o := newObject(1024)
	o.text("target", k.entry.Target())
	o.text("agent_node_id", k.entry.NodeID)
	o.text("reasoner_id", k.entry.Function.Name)
	o.text("type", k.entry.Function.Kind)
	o.text("description", k.entry.Function.Description)
	o.value("tags", append([]string{}, k.raw.Tags...))
	o.text("node_state", string(k.entry.State))
	o.raw("input_schema", k.raw.InputSchema)
	o.raw("output_schema", k.raw.OutputSchema)
	usage := newObject(512)
	usage.instant("since", since)
	usage.number("calls", int64(u.Of))
	usage.truth("truncated", u.Cut)
	usage.number("succeeded", int64(u.Succeeded))
	usage.number("failed", int64(u.Failed))
	usage.number("cancelled", int64(u.Cancelled))
	usage.number("open", int64(u.Open))
	if u.Succeeded > 0 {
		usage.number("p50_ms", u.P50)
		usage.number("p95_ms", u.P95)
	}
	usage.value("called_by", peersJSON(u.Callers))
	usage.value("calls_made", peersJSON(u.Calls))
	o.raw("usage", usage.end())
	return sendJSON(c, fiber.StatusOK, o.end())
}

type peerJSON struct {
	Target string `json:"target"`
	Count  int    `json:"count"`
}

func peersJSON(peers []execution.Peer) []peerJSON {
	all := make([]peerJSON, len(peers))
	for i, p := range peers {
		all[i] = peerJSON{Target: p.NodeID + "." + p.Function, Count: p.Count}
	}
	return all
}

// prefilled is the form as the address wants it filled: with the input of an execution, with one of its own, or with what the visitor typed last.
func (s *Server) prefilled(c *fiber.Ctx, k known) (functions.Try, error) {
	var t functions.Try
	var typed url.Values
	if from := c.Query("from"); from != "" {
		row, err := s.Executions.Row(c.UserContext(), from)
		if err != nil {
			return t, err
		}
		if t.Input.Was, err = s.Executions.PayloadOrNil(c.UserContext(), row.ID, models.PayloadInput); err != nil {
			return t, err
		}
	} else if encoded := c.Query("input"); encoded != "" {
		input, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "="))
		if err != nil || checkJSON(input) != nil {
			return t, badRequest("invalid_parameter", "input must be JSON in URL-safe Base64")
		}
		t.Input.Was = input
	} else {
		var err error
		if typed, t.Saved, err = s.inputDraft(c, desk.Try, k.entry.Target()); err != nil {
			return t, err
		}
	}
	t.Input.Schema = schemaOf(k.raw)
	t.Fill(typed)
	return t, nil
}

// schemaOf is the schema of the input, nil where it says nothing.
func schemaOf(f node.FunctionJSON) []byte {
	if indented(f.InputSchema) == "" {
		return nil
	}
	return f.InputSchema
}

func (s *Server) functionPage(c *fiber.Ctx, status int, k known, t functions.Try) error {
	ctx := c.UserContext()
	u, within, since, err := s.usage(c, k)
	if err != nil {
		return err
	}
	t.Key, t.Input.Form, t.Input.Path = execution.NewID(), "try", functions.TryPath(k.entry.NodeID, k.entry.Function.Name)
	p := functions.ShowPage{
		Frame: s.frame(c, k.entry.Target(), "reasoners", layout.Crumb{Label: "Reasoners", Href: "/reasoners"}, layout.Crumb{Label: k.entry.Target()}),
		Entry: k.entry, Try: t, May: principal(c).Can(access.Execute),
		Usage: functions.Usage{
			Since: within, Of: u.Of, Cut: u.Cut, Succeeded: u.Succeeded, Failed: u.Failed, Open: u.Open, P50: u.P50, P95: u.P95,
			Minutes: float64(s.Now().UnixMilli()-since) / 60_000,
		},
	}
	p.Frame.Assets = []string{"nodes.css", "execution.css", "functions.css", "execution.js"}
	if p.Usage.Recent, err = s.Executions.Rows(ctx, u.Recent); err != nil {
		return err
	}
	if p.Usage.Groups, err = s.failuresOf(ctx, u.Groups); err != nil {
		return err
	}
	for _, peer := range u.Callers {
		p.Usage.Callers = append(p.Usage.Callers, functions.Peer(peer))
	}
	for _, peer := range u.Calls {
		p.Usage.Calls = append(p.Usage.Calls, functions.Peer(peer))
	}
	return page(c, status, functions.Show(p), "usage")
}

// failuresOf puts words to groups of failures: those of the newest of each.
func (s *Server) failuresOf(ctx context.Context, groups []execution.Failing) ([]functions.Group, error) {
	ids := make([]string, len(groups))
	for i, g := range groups {
		ids[i] = g.Newest
	}
	rows, err := s.Executions.Rows(ctx, ids)
	if err != nil {
		return nil, err
	}
	said := map[string]string{}
	for _, row := range rows {
		said[row.ID] = text(row.ErrorMessage)
	}
	all := make([]functions.Group, len(groups))
	for i, g := range groups {
		all[i] = functions.Group{ID: g.Group, Count: g.Count, Message: said[g.Newest]}
	}
	return all, nil
}

// tryFunction makes an execution from the form. Who does not want to wait for its result sees it run; both end on its page.
func (s *Server) tryFunction(c *fiber.Ctx) error {
	ctx, typed := c.UserContext(), formOf(c)
	k, err := s.knownFunction(c)
	if err != nil {
		return err
	}
	sub, problems, err := s.tried(c, k, typed)
	if err != nil {
		return err
	}
	refuse := func(status int, problems map[string]string, problem string) error {
		t := functions.Try{Input: values.Input{Schema: schemaOf(k.raw), Problems: problems}, Problem: problem}
		t.Fill(typed)
		return s.functionPage(c, status, k, t)
	}
	if len(problems) > 0 {
		return refuse(fiber.StatusUnprocessableEntity, problems, "")
	}
	row, err := s.startTry(ctx, sub, typed.Get(functions.FieldMode) == "sync")
	if wrong, ok := errors.AsType[*node.InputError](err); ok {
		return refuse(fiber.StatusUnprocessableEntity, values.Misfit(wrong.Pointer, upper(wrong.Error())+".", typed), "")
	}
	if err != nil {
		f := asFailure(err)
		if f.status >= fiber.StatusInternalServerError && f.retryAfter == 0 {
			return err
		}
		return refuse(f.status, nil, upper(f.details)+".")
	}
	if err := s.Desk.SaveDraft(ctx, principal(c).Name, desk.Try, k.entry.Target(), ""); err != nil {
		return err
	}
	return seeOther(c, "/executions/"+row.ID)
}

func (s *Server) startTry(ctx context.Context, sub execution.Submission, wait bool) (*models.Execution, error) {
	if wait {
		f, err := s.Executions.Call(ctx, sub, false)
		return f.Row, err
	}
	started, err := s.Executions.Submit(ctx, sub)
	return started.Row, err
}

// tried is the execution that a form asks for, or what is wrong with the form, by field.
func (s *Server) tried(c *fiber.Ctx, k known, typed url.Values) (execution.Submission, map[string]string, error) {
	sub := execution.Submission{ID: execution.NewID(), NodeID: k.entry.NodeID, Function: k.entry.Function.Name, StartedBy: startedBy(c)}
	input, problems, err := s.typedInput(c.UserContext(), sub.NodeID, sub.Function, typed)
	if err != nil || len(problems) > 0 {
		return sub, problems, err
	}
	problems = map[string]string{}
	if sub.Input, err = inputOf(json.RawMessage(input)); err != nil {
		problems["input"] = upper(asFailure(err).details) + "."
	}
	for name, into := range map[string]*string{functions.FieldSession: &sub.SessionID, functions.FieldActor: &sub.ActorID, functions.FieldWorkflow: &sub.WorkflowID} {
		*into = strings.TrimSpace(typed.Get(name))
		if err := opaque(name, *into); err != nil {
			problems[name] = upper(asFailure(err).details) + "."
		}
	}
	if address := strings.TrimSpace(typed.Get(functions.FieldWebhook)); address != "" {
		registration, err := s.Webhooks.Prepare(sub.ID, webhook.Spec{URL: address})
		if err != nil {
			problems[functions.FieldWebhook] = upper(asFailure(err).details) + "."
		}
		sub.Webhook = &registration
	}
	sub.Record = &audit.Entry{
		Origin: origin(c), At: s.Now().UnixMilli(), Action: "execution.try", ObjectKind: "execution", Object: sub.ID, After: map[string]any{"target": k.entry.Target()},
	}
	sub.Key, err = keyOf(c, typed.Get(functions.FieldKey), "try", k.entry.Target(), []byte(values.InputDraft(typed)))
	return sub, problems, err
}

// saveTryDraft keeps what somebody types to try a function.
func (s *Server) saveTryDraft(c *fiber.Ctx) error {
	k, err := s.knownFunction(c)
	if err != nil {
		return err
	}
	return s.saveInputDraft(c, desk.Try, k.entry.Target(), functions.Href(k.entry.NodeID, k.entry.Function.Name))
}
