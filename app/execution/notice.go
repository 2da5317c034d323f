package execution

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

const noticeTimeout = 5 * time.Second

// tell delivers one notice to the agent (wire.md 4.4) and settles it: delivered, tried again later, or given up and kept in the history.
func (s *Service) tell(ctx context.Context, c lease.Claimed) {
	n, err := s.readNotice(ctx, c.ID)
	if err != nil {
		s.Log.Error("cannot read a notice", "notice_id", c.ID, "error", err)
		return // the lease passes on
	}
	said, sendErr := s.sendNotice(ctx, n)
	status, at := "delivered", s.DB.NowMs()
	data := map[string]any{"notice": n.Kind, "outcome": said}
	if sendErr != nil {
		data["outcome"], data["error"] = "not delivered", plain(sendErr)
		status = "failed"
		if c.Attempt < c.MaxAttempts {
			status, at = "queued", at+lease.Backoff{First: time.Second}.Delay(c.Attempt).Milliseconds()
		}
	}
	if err := s.settleNotice(ctx, c, n, status, at, data); err != nil {
		s.Log.Error("cannot record a notice", "execution_id", n.ExecutionID, "error", err)
	}
}

func (s *Service) readNotice(ctx context.Context, id string) (*models.Notice, error) {
	n := &models.Notice{ID: id}
	err := s.DB.QueryRow(ctx, "SELECT execution_id, kind, node_id, instance_id, url, body FROM notices WHERE id = $1", []any{id},
		&n.ExecutionID, &n.Kind, &n.NodeID, &n.InstanceID, &n.URL, &n.Body)
	return n, err
}

// sendNotice posts it to the instance that has the call, or to all of the node. One that knows the execution, or says that it does not,
// has been told.
func (s *Service) sendNotice(ctx context.Context, n *models.Notice) (string, error) {
	if n.URL != nil {
		return s.sendTo(ctx, *n.URL, n)
	}
	addresses, err := s.Nodes.Addresses(ctx, n.NodeID, n.InstanceID)
	if err != nil {
		return "", err
	}
	if len(addresses) == 0 {
		return "the node has no address any more", nil
	}
	said := ""
	var failures error
	for _, base := range addresses {
		status, _, err := s.postNotice(ctx, base+"/_internal/executions/"+url.PathEscape(n.ExecutionID)+"/"+n.Kind, n)
		if err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		said = fmt.Sprintf("the agent answered %d", status)
	}
	if said != "" {
		return said, nil
	}
	return "", failures
}

// sendTo posts a notice to the address the agent gave for it. Only a 2xx means that the agent has it.
func (s *Service) sendTo(ctx context.Context, address string, n *models.Notice) (string, error) {
	status, answer, err := s.postNotice(ctx, address, n)
	if err != nil {
		return "", err
	}
	if status < 200 || status >= 300 {
		return "", fmt.Errorf("the agent answered %d", status)
	}
	if s.Told != nil {
		s.Told(ctx, n, answer)
	}
	return fmt.Sprintf("the agent answered %d", status), nil
}

// workflowOf is the run that a notice names, if it names one.
func workflowOf(n *models.Notice) string {
	var body struct {
		WorkflowID string `json:"workflow_id"`
	}
	if json.Unmarshal([]byte(n.Body), &body) != nil {
		return ""
	}
	return body.WorkflowID
}

func (s *Service) postNotice(ctx context.Context, address string, n *models.Notice) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader([]byte(n.Body)))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Execution-ID", n.ExecutionID)
	if workflow := workflowOf(n); workflow != "" {
		request.Header.Set("X-Workflow-ID", workflow)
	}
	request.Header.Set("X-AgentField-Source", n.Kind+"-dispatcher")
	request.Header.Set("Idempotency-Key", n.ID)
	if s.InternalToken != "" {
		request.Header.Set("Authorization", "Bearer "+s.InternalToken)
	}
	response, err := s.Client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err = io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return 0, nil, err
	}
	if response.StatusCode >= 500 {
		return 0, nil, fmt.Errorf("the agent answered %d", response.StatusCode)
	}
	return response.StatusCode, answer, nil
}

func (s *Service) settleNotice(ctx context.Context, c lease.Claimed, n *models.Notice, status string, at int64, data map[string]any) error {
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		ours, err := s.notices.Settle(ctx, tx, c, status, at)
		if err != nil || !ours || status == "queued" {
			return err
		}
		return s.Events.Append(ctx, tx, &models.Event{
			ExecutionID: &n.ExecutionID, NodeID: n.NodeID, Kind: event.KindNotice, At: s.DB.NowMs(), Data: asJSON(data),
		})
	})
}
