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
	attemptColumns = `SELECT id, delivery_id, execution_id, endpoint_id, attempt, http_status, error, error_class, latency_ms, response_body, at
		FROM webhook_attempts`
	deliveryColumns = `SELECT id, execution_id, event, url, status, available_at, attempt, max_attempts, lease_owner, last_status, last_error,
		last_class, last_latency_ms, created_at, delivered_at, hold, stopped_by FROM webhook_deliveries`
	selectExecution = `SELECT id, run_id, workflow_id, session_id, actor_id, node_id, function, function_kind, status, status_reason, attempt,
		context, created_at, started_at, finished_at, error_category, error_message, result_bytes FROM executions WHERE id = $1`
)

// ofExecutions is one statement for any number of ids, so that it stays prepared. What went to endpoints is no business of who called.
func (s *Service) ofExecutions(columns, order string) string {
	if s.DB.Postgres() {
		return columns + " WHERE execution_id = ANY($1) AND endpoint_id = ''" + order
	}
	return columns + " WHERE execution_id IN (SELECT value FROM json_each($1)) AND endpoint_id = ''" + order
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

// Attempts lists what was tried at the address that each of these executions was registered with, per execution in order.
func (s *Service) Attempts(ctx context.Context, executionIDs ...string) ([]models.WebhookAttempt, error) {
	rows, err := s.query(ctx, s.ofExecutions(attemptColumns, " ORDER BY execution_id, attempt, id"), executionIDs)
	if err != nil {
		return nil, fmt.Errorf("read webhook attempts: %w", err)
	}
	return scanAttempts(rows)
}

// AttemptsOf lists what was tried for one delivery, in order.
func (s *Service) AttemptsOf(ctx context.Context, d *models.WebhookDelivery) ([]models.WebhookAttempt, error) {
	statement, args := attemptColumns+" WHERE delivery_id = $1 AND execution_id = '' ORDER BY id", []any{d.ID}
	if d.ExecutionID != "" {
		statement, args = attemptColumns+" WHERE delivery_id = $1 AND execution_id = $2 ORDER BY id", []any{d.ID, d.ExecutionID}
	}
	rows, err := s.DB.Query(ctx, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("read the attempts of a webhook: %w", err)
	}
	return scanAttempts(rows)
}

func scanAttempts(rows database.Rows) ([]models.WebhookAttempt, error) {
	defer rows.Close()
	var list []models.WebhookAttempt
	for rows.Next() {
		var a models.WebhookAttempt
		if err := rows.Scan(&a.ID, &a.DeliveryID, &a.ExecutionID, &a.EndpointID, &a.Attempt, &a.HTTPStatus, &a.Error, &a.ErrorClass, &a.LatencyMs,
			&a.ResponseBody, &a.At); err != nil {
			return nil, fmt.Errorf("read a webhook attempt: %w", err)
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

// Deliveries lists what goes to the address that each of these executions was registered with.
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
			&d.LastStatus, &d.LastError, &d.LastClass, &d.LastLatencyMs, &d.CreatedAt, &d.DeliveredAt, &d.Hold, &d.StoppedBy); err != nil {
			return nil, fmt.Errorf("read a webhook delivery: %w", err)
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// Body is what a receiver gets, to the byte; ErrNoExecution when it was made of an execution that is no longer kept.
func (s *Service) Body(ctx context.Context, d *models.WebhookDelivery) ([]byte, error) {
	var e models.Execution
	if d.Body == nil {
		err := s.readExecution(ctx, d.ExecutionID, &e)
		if errors.Is(err, database.ErrNoRows) || (err == nil && !e.Status.Terminal()) {
			return nil, ErrNoExecution
		}
		if err != nil {
			return nil, fmt.Errorf("read the execution of a webhook: %w", err)
		}
	}
	return s.body(ctx, d.Event, d.Body, &e)
}

func (s *Service) readExecution(ctx context.Context, id string, e *models.Execution) error {
	return s.DB.QueryRow(ctx, selectExecution, []any{id}, &e.ID, &e.RunID, &e.WorkflowID, &e.SessionID, &e.ActorID, &e.NodeID,
		&e.Function, &e.FunctionKind, &e.Status, &e.StatusReason, &e.Attempt, &e.Context, &e.CreatedAt, &e.StartedAt, &e.FinishedAt,
		&e.ErrorCategory, &e.ErrorMessage, &e.ResultBytes)
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
