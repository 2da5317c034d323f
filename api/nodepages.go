package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/node"
	"github.com/agentfield/agentfield/views/layout"
	nodeviews "github.com/agentfield/agentfield/views/nodes"
)

// nodeRoutes show the registered nodes and let operators look after them.
func (s *Server) nodeRoutes() []Route {
	return []Route{
		{"GET", "/nodes", access.Read, s.listNodes},
		{"GET", "/nodes/:id", access.Read, s.showNode},
		{"POST", "/nodes/:id/drain", access.Operate, s.drainNode},
		{"POST", "/nodes/:id/resume", access.Operate, s.resumeNode},
		{"POST", "/nodes/:id/limits", access.Operate, s.limitNode},
		{"POST", "/nodes/:id/remove", access.Operate, s.removeNode},
	}
}

func (s *Server) nodesPage(c *fiber.Ctx) error {
	list, err := s.Nodes.List(c.UserContext(), node.ListQuery{ShowAll: true})
	if err != nil {
		return err
	}
	ids := make([]string, len(list.Nodes))
	for i, a := range list.Nodes {
		ids[i] = a.ID
	}
	loads, err := s.Executions.Loads(c.UserContext(), ids, s.Now().Add(-time.Hour).UnixMilli())
	if err != nil {
		return err
	}
	p := nodeviews.ListPage{Frame: s.frame(c, "Nodes", "nodes", layout.Crumb{Label: "Nodes"})}
	p.Frame.Assets = []string{"nodes.css"}
	for _, a := range list.Nodes {
		limits, err := s.Nodes.Limits(c.UserContext(), a.ID)
		if err != nil && !errors.Is(err, node.ErrUnknownNode) {
			return err
		}
		p.Nodes = append(p.Nodes, viewOfNode(a, loads[a.ID], limits))
	}
	slices.SortFunc(p.Nodes, func(a, b nodeviews.Node) int { return strings.Compare(a.ID, b.ID) })
	return page(c, fiber.StatusOK, nodeviews.List(p), "nodes")
}

// nodePage shows one node; problem is what became of the last request.
func (s *Server) nodePage(c *fiber.Ctx, status int, problem string) error {
	ctx, id := c.UserContext(), c.Params("id")
	a, err := s.Nodes.Get(ctx, id, "")
	if err != nil {
		return nodeNotFound(err)
	}
	loads, err := s.Executions.Loads(ctx, []string{id}, s.Now().Add(-time.Hour).UnixMilli())
	if err != nil {
		return err
	}
	limits, err := s.Nodes.Limits(ctx, id)
	if err != nil && !errors.Is(err, node.ErrUnknownNode) {
		return err
	}
	recent, err := s.Executions.List(ctx, execution.Filter{Node: id, Limit: 8})
	if err != nil {
		return err
	}
	took, err := s.Executions.TimingOf(ctx, id)
	if err != nil {
		return err
	}
	p := nodeviews.ShowPage{
		Frame: s.frame(c, id, "nodes", layout.Crumb{Label: "Nodes", Href: "/nodes"}, layout.Crumb{Label: id}), Node: viewOfNode(a, loads[id], limits),
		Recent: recent.Rows, P50: took.P50, P95: took.P95, Timed: took.Of, Operate: principal(c).Can(access.Operate), Problem: problem,
		Said: nodeDone[c.Query("done")],
	}
	p.Frame.Assets = []string{"nodes.css"}
	return page(c, status, nodeviews.Show(p), "node")
}

// nodeDone says what an act has led to, after the redirect.
var nodeDone = map[string]string{
	"drain": "It gets no new calls. What it has begun it finishes.", "resume": "It gets calls again.", "limits": "The limits are in force.",
}

func viewOfNode(a *node.AgentJSON, load execution.Load, limits node.AllLimits) nodeviews.Node {
	n := nodeviews.Node{
		ID: a.ID, Seen: ms(a.LastHeartbeat), Limits: viewOfLimits(limits.Limits),
		Load: nodeviews.Load{Queued: load.Queued, Running: load.Running, Waiting: load.Waiting, Failed: load.Failed},
	}
	for _, i := range a.Instances {
		shown := viewOfInstance(i)
		n.Instances = append(n.Instances, shown)
		if i.Version != "" && !slices.Contains(n.Versions, i.Version) {
			n.Versions = append(n.Versions, i.Version)
		}
	}
	n.State, n.Reason = stateOfNode(n.Instances)
	for kind, functions := range map[string][]node.FunctionJSON{"reasoner": a.Reasoners, "skill": a.Skills} {
		for _, f := range functions {
			n.Functions = append(n.Functions, nodeviews.Function{
				Name: f.ID, Kind: kind, Description: f.Description, Input: indented(f.InputSchema), Output: indented(f.OutputSchema),
				Idempotent: slices.Contains(f.Tags, "idempotent"), Tags: f.Tags, Limits: viewOfLimits(limits.Of(f.ID)),
			})
		}
	}
	slices.SortFunc(n.Functions, func(a, b nodeviews.Function) int { return strings.Compare(a.Name, b.Name) })
	return n
}

func viewOfLimits(l node.Limits) nodeviews.Limits {
	return nodeviews.Limits{AtOnce: l.MaxConcurrency, Waiting: l.MaxDepth, PerMinute: l.MaxPerMinute}
}

func viewOfInstance(i node.InstanceJSON) nodeviews.Instance {
	v := nodeviews.Instance{
		ID: i.ID, URL: i.BaseURL, Version: i.Version, Seen: ms(i.LastHeartbeat), InFlight: i.InFlight, Resting: i.Resting, Draining: i.DrainingSince != nil,
		State: nodeviews.Ready, Reason: text(i.HealthReason),
	}
	switch {
	case i.LifecycleStatus == node.Offline:
		v.State, v.Reason = nodeviews.Down, "It said that it stops."
	case i.HealthStatus == node.Inactive:
		v.State = nodeviews.Down
	case v.Draining:
		v.State, v.Reason = nodeviews.Draining, "No new calls; it finishes what it has begun."
	case i.HealthStatus == node.Degraded || i.LifecycleStatus == node.Degraded || len(i.Resting) > 0:
		v.State = nodeviews.Degraded
	}
	return v
}

// stateOfNode is that of the best of its instances, but degraded when not all of those are as good.
func stateOfNode(instances []nodeviews.Instance) (nodeviews.State, string) {
	count := map[nodeviews.State]int{}
	for _, i := range instances {
		count[i.State]++
	}
	all := len(instances)
	switch {
	case all == 0:
		return nodeviews.Down, "It has no instance: work for it waits until one registers."
	case count[nodeviews.Ready] == all:
		return nodeviews.Ready, ""
	case count[nodeviews.Ready]+count[nodeviews.Degraded] > 0 && count[nodeviews.Degraded] == 0 && count[nodeviews.Down] == 0:
		return nodeviews.Ready, plural(count[nodeviews.Draining], "instance is draining.", "instances are draining.")
	case count[nodeviews.Ready]+count[nodeviews.Degraded] > 0:
		return nodeviews.Degraded, plural(count[nodeviews.Down]+count[nodeviews.Degraded], "instance is not well.", "instances are not well.")
	case count[nodeviews.Draining] > 0:
		return nodeviews.Draining, "Every instance that is up is draining: work for it waits until another registers or one is resumed."
	}
	return nodeviews.Down, "No instance can be reached: work for it waits until one comes back."
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// ms reads an instant as it is written on the wire; 0 when there is none.
func ms(stamp string) int64 {
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return 0
	}
	return at.UnixMilli()
}

// indented writes a schema for people; empty when it says nothing.
func indented(raw json.RawMessage) string {
	if trimmed := bytes.TrimSpace(raw); len(trimmed) == 0 || bytes.Equal(trimmed, []byte("{}")) {
		return ""
	}
	var out bytes.Buffer
	if json.Indent(&out, raw, "", "  ") != nil {
		return string(raw)
	}
	return out.String()
}

// operateRequest is what the acts on nodes take, as JSON or as a form.
type operateRequest struct {
	InstanceID     string `json:"instance_id" form:"instance_id"`
	MaxConcurrency *int   `json:"max_concurrency" form:"max_concurrency"`
	MaxDepth       *int   `json:"max_depth" form:"max_depth"`
	MaxPerMinute   *int   `json:"max_per_minute" form:"max_per_minute"`
	Function       string `json:"function" form:"function"` // whose limits; empty: those of the node
}

func (s *Server) operateRequest(c *fiber.Ctx) (operateRequest, error) {
	var r operateRequest
	if wantsJSON(c) {
		if err := bind(c, &r, true); err != nil {
			return r, err
		}
	} else if err := c.BodyParser(&r); err != nil && len(c.Body()) > 0 {
		return r, badRequest("invalid_parameter", "limits are whole numbers")
	}
	return r, opaque("instance_id", r.InstanceID)
}

func (s *Server) drainNode(c *fiber.Ctx) error {
	r, err := s.operateRequest(c)
	if err != nil {
		return err
	}
	n, err := s.Nodes.Drain(c.UserContext(), origin(c), c.Params("id"), r.InstanceID)
	return s.operated(c, "drain", fiber.Map{"drained": n}, err)
}

func (s *Server) resumeNode(c *fiber.Ctx) error {
	r, err := s.operateRequest(c)
	if err != nil {
		return err
	}
	n, err := s.Nodes.Resume(c.UserContext(), origin(c), c.Params("id"), r.InstanceID)
	return s.operated(c, "resume", fiber.Map{"resumed": n}, err)
}

// limitNode changes what is given and leaves the rest.
func (s *Server) limitNode(c *fiber.Ctx) error {
	r, err := s.operateRequest(c)
	if err != nil {
		return err
	}
	all, err := s.Nodes.Limits(c.UserContext(), c.Params("id"))
	limits := all.Of(r.Function)
	if err == nil {
		for _, given := range []struct{ value, into *int }{
			{r.MaxConcurrency, &limits.MaxConcurrency}, {r.MaxDepth, &limits.MaxDepth}, {r.MaxPerMinute, &limits.MaxPerMinute},
		} {
			if given.value != nil {
				*given.into = *given.value
			}
		}
		err = s.Nodes.SetLimits(c.UserContext(), origin(c), c.Params("id"), r.Function, limits)
	}
	answer := fiber.Map{"max_concurrency": limits.MaxConcurrency, "max_depth": limits.MaxDepth, "max_per_minute": limits.MaxPerMinute}
	if r.Function != "" {
		answer["function"] = r.Function
	}
	return s.operated(c, "limits", answer, err)
}

func (s *Server) removeNode(c *fiber.Ctx) error {
	return s.operated(c, "remove", fiber.Map{"removed": true}, s.Nodes.Remove(c.UserContext(), origin(c), c.Params("id")))
}

// operated answers an act: with the facts, with the page as it is now, or with what stood in the way.
func (s *Server) operated(c *fiber.Ctx, act string, answer fiber.Map, err error) error {
	switch {
	case errors.Is(err, node.ErrStillUp), errors.Is(err, node.ErrBadLimit), errors.Is(err, node.ErrUnknownInstance):
		f := &failure{status: fiber.StatusConflict, code: "node_is_up", title: "node is up", details: err.Error()}
		if errors.Is(err, node.ErrBadLimit) {
			f = &failure{status: fiber.StatusBadRequest, code: "invalid_parameter", title: "Invalid parameter", details: err.Error()}
		} else if errors.Is(err, node.ErrUnknownInstance) {
			f = &failure{status: fiber.StatusNotFound, code: "instance_not_found", title: "instance not found", details: err.Error()}
		}
		if wantsJSON(c) {
			return f
		}
		return s.nodePage(c, f.status, f.details)
	case err != nil:
		return nodeNotFound(err)
	case wantsJSON(c):
		answer["node_id"] = c.Params("id")
		return c.JSON(answer)
	case act == "remove":
		return seeOther(c, "/nodes")
	}
	return seeOther(c, "/nodes/"+url.PathEscape(c.Params("id"))+"?done="+act)
}
