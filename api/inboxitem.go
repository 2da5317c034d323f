package api

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/approvals"
)

const shownOfRun = 20

// item gathers everything that helps to decide one request.
func (s *Server) item(ctx context.Context, c *fiber.Ctx, open *opened) (*approvals.Item, error) {
	a := open.approval
	who := person(c)
	item := &approvals.Item{
		Approval: a, Right: rightTo(who, a), Policy: approval.Words(a), Consequences: consequences(a), Hold: s.holdOf(a),
		Typed: open.typed, Conflict: open.conflict, Problems: open.problems,
	}
	if own := s.base(c) + "/approvals/" + a.ID; a.URL != own && !strings.HasSuffix(a.URL, "/approvals/"+a.ID) {
		item.Page = a.URL
	}
	body, err := s.Approvals.Body(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	item.Payload, item.Form, item.Edited = body.Payload, body.Form, body.Edited
	if item.Payload == nil {
		if item.Input, err = s.Executions.PayloadOrNil(ctx, a.ExecutionID, models.PayloadInput); err != nil {
			return nil, err
		}
	}
	if err := s.fillRounds(ctx, item); err != nil {
		return nil, err
	}
	if err := s.fillRun(ctx, item); err != nil {
		return nil, err
	}
	if item.Votes, err = s.Approvals.Votes(ctx, a.ID); err != nil {
		return nil, err
	}
	similar, err := s.Approvals.SimilarTo(ctx, a)
	if err != nil {
		return nil, err
	}
	item.Similar = approvals.Similar{
		Approved: similar.Counts[models.Approved], Rejected: similar.Counts[models.Rejected], ChangesRequested: similar.Counts[models.ChangesRequested],
		Expired: similar.Counts[models.ApprovalExpired], Recent: similar.Recent,
	}
	item.Draft, err = s.Desk.Draft(ctx, who.Name, "approval", a.ID)
	return item, err
}

func (s *Server) fillRounds(ctx context.Context, item *approvals.Item) error {
	if item.Approval.Round <= 1 {
		return nil
	}
	rounds, err := s.Approvals.OfExecution(ctx, item.Approval.ExecutionID)
	if err != nil {
		return err
	}
	for _, r := range rounds {
		if r.Round >= item.Approval.Round {
			continue
		}
		body, err := s.Approvals.Body(ctx, r.ID)
		if err != nil {
			return err
		}
		item.Rounds = append(item.Rounds, approvals.Round{Approval: r, Payload: body.Payload})
		item.Before = body.Payload
	}
	return nil
}

func (s *Server) fillRun(ctx context.Context, item *approvals.Item) error {
	row, err := s.Executions.Row(ctx, item.Approval.ExecutionID)
	if errors.Is(err, execution.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	item.Execution = row
	run, err := s.Executions.List(ctx, execution.Filter{Run: row.RunID, Limit: shownOfRun + 1})
	if err != nil {
		return err
	}
	item.Run = run.Rows
	if len(item.Run) > shownOfRun {
		item.MoreRun, item.Run = 1, item.Run[:shownOfRun]
	}
	return nil
}

// holdOf is how long a decision is held, in seconds: not at all when it would run out meanwhile.
func (s *Server) holdOf(a *models.Approval) int {
	if a.ExpiresAt-s.Now().UnixMilli() >= time.Minute.Milliseconds() {
		return int(s.Approvals.Hold.Seconds())
	}
	return 0
}

// consequences say what each button really does here.
func consequences(a *models.Approval) approvals.Consequences {
	words := approvals.Consequences{
		Approve: "The agent continues now.", RequestChanges: "The agent continues with your words and is expected to ask again.",
		Reject: "The agent is told no and decides how to end.",
	}
	if a.Quorum > 1 {
		words.Approve = "Counts as one of " + strconv.Itoa(a.Quorum) + " approvals; the agent continues when all are there."
	}
	if a.OnReject == "cancel" {
		words.Reject = "The execution is cancelled."
	}
	return words
}
