package execution

import (
	"strings"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

const executionColumns = `id, run_id, workflow_id, parent_id, session_id, actor_id, caller, node_id, function, function_kind, mode, status,
	status_reason, available_at, attempt, failures, max_attempts, redeliveries, lease_owner, instance_id, retry_policy, timeout_ms, deadline_at,
	has_webhook, context, trace, created_at, started_at, finished_at, error_code, error_category, error_message, error_status, progress,
	progress_note, input_bytes, result_bytes, holds, deadline_left_ms, waiting_since, rounds, started_by, held_by, rerun_of, local, error_group,
	paused_in, rank, asked_by, concurrency_key, key_limit, parked, headers`

func scanExecution(rows database.Rows) (*models.Execution, error) {
	e := &models.Execution{}
	err := rows.Scan(&e.ID, &e.RunID, &e.WorkflowID, &e.ParentID, &e.SessionID, &e.ActorID, &e.Caller, &e.NodeID, &e.Function, &e.FunctionKind, &e.Mode,
		&e.Status, &e.StatusReason, &e.AvailableAt, &e.Attempt, &e.Failures, &e.MaxAttempts, &e.Redeliveries, &e.LeaseOwner, &e.InstanceID, &e.RetryPolicy,
		&e.TimeoutMs, &e.DeadlineAt, &e.HasWebhook, &e.Context, &e.Trace, &e.CreatedAt, &e.StartedAt, &e.FinishedAt, &e.ErrorCode, &e.ErrorCategory,
		&e.ErrorMessage, &e.ErrorStatus, &e.Progress, &e.ProgressNote, &e.InputBytes, &e.ResultBytes,
		&e.Holds, &e.DeadlineLeftMs, &e.WaitingSince, &e.Rounds, &e.StartedBy, &e.HeldBy, &e.RerunOf, &e.Local, &e.ErrorGroup,
		&e.PausedIn, &e.Rank, &e.AskedBy, &e.ConcurrencyKey, &e.KeyLimit, &e.Parked, &e.Headers)
	return e, err
}

func qualified(columns, table string) string {
	names := strings.Split(columns, ",")
	for i, name := range names {
		names[i] = table + "." + strings.TrimSpace(name)
	}
	return strings.Join(names, ", ")
}
