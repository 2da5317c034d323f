package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// ErrNoExecution says that there is no such execution, or that it has not ended.
var ErrNoExecution = errors.New("no execution that has ended has this id")

const (
	attemptColumns  = `SELECT id, delivery_id, execution_id, attempt, http_status, error, error_class, latency_ms, response_body, at FROM webhook_attempts`
	deliveryColumns = `SELECT id, execution_id, event, url, status, available_at, attempt, max_attempts, lease_owner, last_status, last_error,
		last_class, last_latency_ms, created_at, delivered_at FROM webhook_deliveries`
	selectExecution = `SELECT id, run_id, workflow_id, session_id, actor_id, node_id, function, function_kind, status, status_reason, attempt,
		context, created_at, started_at, finished_at, error_category, error_message FROM executions WHERE id = $1`
)

// ofExecutions is one statement for any number of ids, so that it stays prepared.
func (s *Service) ofExecutions(columns, order string) string {
	if s.DB.Postgres() {
		return columns + " WHERE execution_id = ANY($1)" + order
	}
	return columns + " WHERE execution_id IN (SELECT value FROM json_each($1))" + order
}

func (s *Service) idsArg(ids []string) (any, error) {
	if s.DB.Postgres() {
		return ids, nil
	}
	list, err := json.Marshal(ids)
	return string(list), err
}

func (s *Service) query(ctx context.Context, statement string, ids []string) (database.Rows, error) {
	arg, err := s.idsArg(ids)
	if err != nil {
		return nil, err
	}
	return s.DB.Query(ctx, statement, arg)
}

// Attempts lists what was tried for these executions, per execution in the order of the attempts.
func (s *Service) Attempts(ctx context.Context, executionIDs ...string) ([]models.WebhookAttempt, error) {
	rows, err := s.query(ctx, s.ofExecutions(attemptColumns, " ORDER BY execution_id, attempt, id"), executionIDs)
	if err != nil {
		return nil, fmt.Errorf("read webhook attempts: %w", err)
	}
	defer rows.Close()
	var list []models.WebhookAttempt
	for rows.Next() {
		var a models.WebhookAttempt
		if err := rows.Scan(&a.ID, &a.DeliveryID, &a.ExecutionID, &a.Attempt, &a.HTTPStatus, &a.Error, &a.ErrorClass, &a.LatencyMs,
			&a.ResponseBody, &a.At); err != nil {
			return nil, fmt.Errorf("read a webhook attempt: %w", err)
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

// Deliveries lists the deliveries of these executions.
func (s *Service) Deliveries(ctx context.Context, executionIDs ...string) ([]models.WebhookDelivery, error) {
	rows, err := s.query(ctx, s.ofExecutions(deliveryColumns, " ORDER BY execution_id, id"), executionIDs)
	if err != nil {
		return nil, fmt.Errorf("read webhook deliveries: %w", err)
	}
	defer rows.Close()
	var list []models.WebhookDelivery
	for rows.Next() {
		var d models.WebhookDelivery
		if err := rows.Scan(&d.ID, &d.ExecutionID, &d.Event, &d.URL, &d.Status, &d.AvailableAt, &d.Attempt, &d.MaxAttempts, &d.LeaseOwner,
			&d.LastStatus, &d.LastError, &d.LastClass, &d.LastLatencyMs, &d.CreatedAt, &d.DeliveredAt); err != nil {
			return nil, fmt.Errorf("read a webhook delivery: %w", err)
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// Body is what a receiver gets about an execution that has ended, to the byte; ErrNoExecution otherwise.
func (s *Service) Body(ctx context.Context, executionID string) ([]byte, error) {
	var e models.Execution
	err := s.DB.QueryRow(ctx, selectExecution, []any{executionID}, &e.ID, &e.RunID, &e.WorkflowID, &e.SessionID, &e.ActorID, &e.NodeID,
		&e.Function, &e.FunctionKind, &e.Status, &e.StatusReason, &e.Attempt, &e.Context, &e.CreatedAt, &e.StartedAt, &e.FinishedAt,
		&e.ErrorCategory, &e.ErrorMessage)
	if errors.Is(err, database.ErrNoRows) || (err == nil && !e.Status.Terminal()) {
		return nil, ErrNoExecution
	}
	if err != nil {
		return nil, fmt.Errorf("read the execution of a webhook: %w", err)
	}
	return s.body(ctx, &e)
}

// Address is where the end of an execution is announced; "" when nowhere.
func (s *Service) Address(ctx context.Context, executionID string) (string, error) {
	var url string
	err := s.DB.QueryRow(ctx, "SELECT url FROM webhook_registrations WHERE execution_id = $1", []any{executionID}, &url)
	if errors.Is(err, database.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read a webhook registration: %w", err)
	}
	return url, nil
}
