package api

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/node"
)

// nodeLogs passes on what an agent has logged by itself (wire.md 3.16). It is not kept here.
func (s *Server) nodeLogs(c *fiber.Ctx) error {
	q, err := nodeLogQuery(c)
	if err != nil {
		return err
	}
	lines, err := s.Nodes.Logs(c.UserContext(), c.Params("id"), q)
	if err != nil {
		return nodeLogFailure(nodeNotFound(err))
	}
	c.Set(fiber.HeaderContentType, "application/x-ndjson")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no")
	stop := s.Hub.Follow(s.Hub.Newest())
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer stop.Close()
		var closing sync.WaitGroup
		defer closing.Wait()
		read := make(chan struct{})
		defer close(read)
		closing.Go(func() { // a log that is followed must not hold up the end of the server
			select {
			case <-stop.Done():
			case <-read:
			}
			_ = lines.Close()
		})
		relay(w, lines)
	})
	return nil
}

// relay passes on each piece as it comes.
func relay(w *bufio.Writer, lines io.Reader) {
	piece := make([]byte, 32<<10)
	for {
		n, err := lines.Read(piece)
		if _, broken := w.Write(piece[:n]); broken != nil || w.Flush() != nil || err != nil {
			return
		}
	}
}

func nodeLogQuery(c *fiber.Ctx) (node.LogQuery, error) {
	q := node.LogQuery{SinceSeq: c.Query("since_seq"), Follow: c.QueryBool("follow")}
	if text := c.Query("tail_lines"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return q, badRequest("invalid_parameter", "tail_lines must be a number from 1 to %d", node.MaxTailLines)
		}
		q.TailLines = n
	}
	if q.TailLines > node.MaxTailLines {
		return q, tailTooLarge(node.MaxTailLines)
	}
	if q.SinceSeq != "" {
		if n, err := strconv.ParseInt(q.SinceSeq, 10, 64); err != nil || n < 0 {
			return q, badRequest("invalid_parameter", "since_seq must be the seq of a line")
		}
	}
	return q, nil
}

// nodeLogFailure: what the agent says about its own log is passed on, anything else it says is nonsense.
func nodeLogFailure(err error) error {
	refused, ok := errors.AsType[*node.LogRefusedError](err)
	switch {
	case ok && slices.Contains([]int{fiber.StatusUnauthorized, fiber.StatusNotFound, fiber.StatusRequestEntityTooLarge}, refused.Status):
		return &failure{status: refused.Status, code: "agent_error", title: "the agent refuses", details: string(refused.Body), category: "agent_error"}
	case ok:
		return &failure{status: fiber.StatusBadGateway, code: "agent_bad_response", title: "agent_bad_response", details: refused.Error()}
	case errors.Is(err, node.ErrLogTimeout):
		return &failure{status: fiber.StatusGatewayTimeout, code: "agent_timeout", title: "agent_timeout", details: err.Error()}
	case errors.Is(err, node.ErrLogUnreachable):
		return &failure{status: fiber.StatusBadGateway, code: "agent_unreachable", title: "agent_unreachable", details: err.Error()}
	}
	return err
}
