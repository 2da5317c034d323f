package api

import (
	"errors"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/node"
)

// registerNode takes a registration in either of its path forms (wire.md 3.1).
func (s *Server) registerNode(c *fiber.Ctx) error {
	if err := checkJSON(c.Body()); err != nil {
		return err
	}
	r, err := node.DecodeRegistration(c.Body())
	if err != nil {
		return err
	}
	if r.NodeToken == "" {
		r.NodeToken = c.Get("X-Node-Token")
	}
	done, err := s.Nodes.Register(c.UserContext(), r, c.IP())
	if err != nil {
		return registrationFailure(err)
	}
	return c.Status(fiber.StatusCreated).JSON(done)
}

// registerServerless asks an agent that only runs while it is called what it can do, and registers it (wire.md 3.2).
func (s *Server) registerServerless(c *fiber.Ctx) error {
	var r struct {
		InvocationURL string `json:"invocation_url"`
	}
	if err := bind(c, &r, false); err != nil {
		return err
	}
	done, err := s.Nodes.RegisterServerless(c.UserContext(), r.InvocationURL, c.Get("X-Node-Token"), c.IP())
	if wrong, ok := errors.AsType[*node.InvalidError](err); ok {
		return &failure{status: fiber.StatusBadRequest, code: "invalid_registration", title: "Invalid invocation_url", details: wrong.Message}
	}
	if unheard, ok := errors.AsType[*node.DiscoveryError](err); ok {
		return &failure{status: fiber.StatusBadGateway, code: "discovery_failed", title: "Discovery failed", details: unheard.Reason}
	}
	if err != nil {
		return registrationFailure(err)
	}
	return c.Status(fiber.StatusCreated).JSON(done)
}

// registrationFailure: a node id belongs to whoever has its token.
func registrationFailure(err error) error {
	if errors.Is(err, node.ErrNotOwner) {
		return &failure{status: fiber.StatusForbidden, code: "node_token_required", title: "forbidden", details: err.Error()}
	}
	return err
}

// listNodes answers as the protocol has it; the page shows all of them.
func (s *Server) listNodes(c *fiber.Ctx) error {
	if !wantsJSON(c) {
		return s.nodesPage(c)
	}
	for _, name := range []string{"team_id", "group_id"} {
		if err := opaque(name, c.Query(name)); err != nil {
			return err
		}
	}
	list, err := s.Nodes.List(c.UserContext(), node.ListQuery{
		Health: c.Query("health_status"), TeamID: c.Query("team_id"), GroupID: c.Query("group_id"), ShowAll: c.QueryBool("show_all"),
	})
	if err != nil {
		return wrongParameter(err)
	}
	return c.JSON(list)
}

func (s *Server) showNode(c *fiber.Ctx) error {
	if !wantsJSON(c) {
		return s.nodePage(c, fiber.StatusOK, "")
	}
	one, err := s.Nodes.Get(c.UserContext(), c.Params("id"), c.Query("version"))
	if err != nil {
		return nodeNotFound(err)
	}
	return c.JSON(one)
}

func (s *Server) nodeStatus(c *fiber.Ctx) error {
	status, err := s.Nodes.Status(c.UserContext(), c.Params("id"))
	if err != nil {
		return nodeNotFound(err)
	}
	return c.JSON(status)
}

func (s *Server) refreshNode(c *fiber.Ctx) error {
	status, err := s.Nodes.Refresh(c.UserContext(), c.Params("id"))
	if err != nil {
		return nodeNotFound(err)
	}
	return c.JSON(fiber.Map{"message": "status refreshed", "node_id": status.NodeID, "status": status.Status})
}

func (s *Server) bulkNodeStatus(c *fiber.Ctx) error {
	var r struct {
		NodeIDs []string `json:"node_ids"`
	}
	if err := bind(c, &r, false); err != nil {
		return err
	}
	for _, id := range r.NodeIDs {
		if err := opaque("node_ids", id); err != nil {
			return err
		}
	}
	reply, err := s.Nodes.BulkStatus(c.UserContext(), r.NodeIDs)
	if err != nil {
		return wrongParameter(err)
	}
	if reply.Failed > 0 {
		c.Status(fiber.StatusMultiStatus)
	}
	return c.JSON(reply)
}

func (s *Server) heartbeat(c *fiber.Ctx) error {
	beat, err := node.DecodeBeat(c.Body())
	if err != nil {
		return err
	}
	reply, err := s.Nodes.Heartbeat(c.UserContext(), c.Params("id"), beat, c.IP())
	if err != nil {
		return nodeNotFound(err)
	}
	return c.JSON(reply)
}

func (s *Server) renewLease(c *fiber.Ctx) error {
	beat, err := node.DecodeBeat(c.Body())
	if err != nil {
		return err
	}
	reply, err := s.Nodes.RenewLease(c.UserContext(), c.Params("id"), beat, c.IP())
	if err != nil {
		return nodeNotFound(err)
	}
	return c.JSON(reply)
}

// acknowledgeAction takes the word that an action is done (wire.md 3.3).
func (s *Server) acknowledgeAction(c *fiber.Ctx) error {
	if err := checkJSON(c.Body()); err != nil {
		return err
	}
	done, err := node.DecodeAcknowledgement(c.Body())
	if err != nil {
		return wrongParameter(err)
	}
	reply, err := s.Nodes.Acknowledge(c.UserContext(), c.Params("id"), done, c.IP())
	if err != nil {
		return nodeNotFound(err)
	}
	return c.JSON(reply)
}

// claimActions answers agents that fetch their work: there is none to fetch, it comes to them as calls (wire.md B44).
func (s *Server) claimActions(c *fiber.Ctx) error {
	if err := checkJSON(c.Body()); err != nil {
		return err
	}
	claim, err := node.DecodeActionClaim(c.Body())
	if err != nil {
		return wrongParameter(err)
	}
	reply, err := s.Nodes.ClaimActions(c.UserContext(), claim, c.IP())
	if err != nil {
		return nodeNotFound(err)
	}
	return c.JSON(reply)
}

func (s *Server) setLifecycle(c *fiber.Ctx) error {
	beat, err := node.DecodeBeat(c.Body())
	if err != nil {
		return err
	}
	if err := s.Nodes.SetLifecycle(c.UserContext(), c.Params("id"), beat, c.IP()); err != nil {
		return nodeNotFound(err)
	}
	return c.JSON(fiber.Map{"success": true, "node_id": c.Params("id"), "lifecycle_status": beat.LifecycleStatus})
}

func (s *Server) shutdownNode(c *fiber.Ctx) error {
	farewell, err := node.DecodeFarewell(c.Body())
	if err != nil {
		return err
	}
	reply, err := s.Nodes.Shutdown(c.UserContext(), c.Params("id"), farewell, c.IP())
	if err != nil {
		return nodeNotFound(err)
	}
	return c.Status(fiber.StatusAccepted).JSON(reply)
}

// capabilities answers discovery; its parameter errors have the form clients of that area know (wire.md 1.5).
func (s *Server) capabilities(c *fiber.Ctx) error {
	for _, name := range []string{"agent", "node_id", "agent_ids", "node_ids"} {
		for id := range strings.SplitSeq(c.Query(name), ",") {
			if err := opaque(name, id); err != nil {
				return err
			}
		}
	}
	q, err := node.ParseDiscovery(func(name string) string { return c.Query(name) })
	if wrong, ok := errors.AsType[*node.ParameterError](err); ok {
		o := newObject(256)
		o.text("error", "invalid_parameter")
		o.text("message", wrong.Error())
		o.text("code", "invalid_parameter")
		o.value("details", fiber.Map{"parameter": wrong.Parameter, "provided": wrong.Provided, "allowed": wrong.Allowed})
		o.text("request_id", requestID(c))
		return sendJSON(c, fiber.StatusBadRequest, o.end())
	}
	if err != nil {
		return err
	}
	found, err := s.Nodes.Capabilities(c.UserContext(), q)
	if err != nil {
		return err
	}
	switch q.Format {
	case node.Compact:
		return c.JSON(found.Compact())
	case node.XML:
		text, err := found.XML()
		if err != nil {
			return err
		}
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationXML)
		return c.Send(text)
	}
	return c.JSON(found)
}

// wrongParameter tells what is wrong with a query from what is wrong with a registration: a code has one meaning.
func wrongParameter(err error) error {
	if invalid, ok := errors.AsType[*node.InvalidError](err); ok {
		return badRequest("invalid_parameter", "%s", invalid.Message)
	}
	return err
}

func nodeNotFound(err error) error {
	if errors.Is(err, node.ErrUnknownNode) {
		return &failure{status: fiber.StatusNotFound, code: "node_not_found", title: "node not found", details: "no node with this id is registered"}
	}
	return err
}
