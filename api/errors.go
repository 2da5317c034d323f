package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/agentlog"
	"github.com/agentfield/agentfield/app/desk"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/node"
	"github.com/agentfield/agentfield/app/view"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/app/workflow"
)

// failure is an error on its way to a caller: what to say, and with which status. Handlers return plain errors; this file alone knows
// which answer each gets. What is not listed here is an internal error with a request id.
type failure struct {
	status      int
	code        string // stable word of openapi.yaml
	title       string // "error" of the body
	details     string
	category    string // error_category, where SDKs know one
	retryAfter  time.Duration
	executionID string
	runID       string
	state       string // status of the execution, where it matters
	position    int    // of the mistake in a filter, from 1 on
	maxBytes    int    // the limit that a body exceeds
	body        []byte // a JSON object of its own instead of the above; the request id is added
}

func (f *failure) Error() string { return f.title + ": " + f.details }

func badRequest(code, format string, args ...any) error {
	return &failure{status: fiber.StatusBadRequest, code: code, title: "Bad request", details: fmt.Sprintf(format, args...)}
}

func invalidJSON(format string, args ...any) error {
	return &failure{
		status: fiber.StatusBadRequest, code: "invalid_json", title: "Invalid request body", details: fmt.Sprintf(format, args...), category: "internal_error",
	}
}

// asFailure translates what services return.
func asFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	for _, translate := range []func(error) *failure{executionFailure, bulkFailure, webhookFailure, approvalFailure, nodeFailure, accessFailure, frameworkFailure} {
		if f := translate(err); f != nil {
			return f
		}
	}
	return &failure{
		status: fiber.StatusInternalServerError, code: "internal_error", title: "Internal error",
		details: "something went wrong on our side; the request id finds it in the server's log",
	}
}

func executionFailure(err error) *failure {
	var full *execution.QueueFullError
	var state *execution.StateError
	switch {
	case errors.As(err, &full) && full.Node != "":
		return &failure{
			status: fiber.StatusTooManyRequests, code: "agent_queue_full", title: "Agent queue full", details: full.Error(),
			category: "concurrency_limit", retryAfter: full.RetryAfter,
		}
	case errors.As(err, &full):
		return &failure{
			status: fiber.StatusServiceUnavailable, code: "queue_full", title: "Queue full", details: full.Error(),
			category: "concurrency_limit", retryAfter: full.RetryAfter,
		}
	case errors.As(err, &state):
		return &failure{status: fiber.StatusConflict, code: "invalid_state", title: "invalid_state", details: state.Error(), executionID: state.ID, state: string(state.Status)}
	case errors.Is(err, execution.ErrNotFound):
		return &failure{status: fiber.StatusNotFound, code: "execution_not_found", title: "execution not found", details: "there is no execution with this id: check it, or list executions"}
	case errors.Is(err, workflow.ErrNotFound):
		return &failure{status: fiber.StatusNotFound, code: "workflow_not_found", title: "workflow not found", details: "there is no run with this id: give a run id or the X-Workflow-ID of its calls"}
	case errors.Is(err, execution.ErrDraining):
		return &failure{status: fiber.StatusServiceUnavailable, code: "draining", title: "Shutting down", details: err.Error(), retryAfter: 2 * time.Second}
	case errors.Is(err, execution.ErrIdempotencyKey):
		return &failure{status: fiber.StatusUnprocessableEntity, code: "idempotency_key_reused", title: "Idempotency-Key reused", details: err.Error()}
	case errors.Is(err, execution.ErrInsideAgent):
		return &failure{status: fiber.StatusConflict, code: "invalid_state", title: "invalid_state", details: err.Error()}
	case errors.Is(err, execution.ErrStaleAttempt):
		return &failure{status: fiber.StatusConflict, code: "stale_attempt", title: "stale_attempt", details: err.Error()}
	case errors.Is(err, execution.ErrTerminalConflict):
		return &failure{status: fiber.StatusConflict, code: "terminal_conflict", title: "terminal_conflict", details: err.Error()}
	case errors.Is(err, execution.ErrBadToken):
		return &failure{status: fiber.StatusUnauthorized, code: "execution_token_invalid", title: "unauthorized", details: err.Error()}
	case errors.Is(err, desk.ErrDraftTooLong):
		return &failure{status: fiber.StatusBadRequest, code: "invalid_parameter", title: "Bad request", details: err.Error()}
	case errors.Is(err, execution.ErrNoInput):
		return &failure{status: fiber.StatusConflict, code: "input_gone", title: "Input not kept", details: err.Error()}
	case errors.Is(err, agentlog.ErrFull):
		return &failure{status: fiber.StatusTooManyRequests, code: "log_full", title: "Log full", details: err.Error(), retryAfter: time.Hour}
	case errors.Is(err, execution.ErrTooManyNotes):
		return &failure{status: fiber.StatusTooManyRequests, code: "too_many_notes", title: "Too many notes", details: err.Error(), retryAfter: time.Minute}
	case errors.Is(err, view.ErrNotFound):
		return &failure{status: fiber.StatusNotFound, code: "view_not_found", title: "view not found", details: err.Error()}
	case isAny(err, view.ErrBadName, view.ErrTooLong, view.ErrTooMany):
		return &failure{status: fiber.StatusBadRequest, code: "invalid_parameter", title: "Bad request", details: err.Error()}
	case errors.Is(err, execution.ErrTooBroad):
		return &failure{status: fiber.StatusServiceUnavailable, code: "search_too_broad", title: "Search too broad", details: err.Error(), retryAfter: 5 * time.Second}
	case errors.Is(err, execution.ErrBadCursor):
		return &failure{status: fiber.StatusBadRequest, code: "invalid_cursor", title: "Bad request", details: err.Error()}
	case errors.Is(err, webhook.ErrInvalid):
		return &failure{status: fiber.StatusBadRequest, code: "webhook_invalid", title: "Invalid webhook", details: sentence(err, webhook.ErrInvalid)}
	case errors.Is(err, execution.ErrBusy):
		return &failure{
			status: fiber.StatusServiceUnavailable, code: "store_busy", title: "Store busy", details: "the store cannot take more at the moment: try again",
			category: "concurrency_limit", retryAfter: time.Second,
		}
	}
	return nil
}

func nodeFailure(err error) *failure {
	var input *node.InputError
	var invalid *node.InvalidError
	switch {
	case errors.As(err, &input):
		return &failure{status: fiber.StatusUnprocessableEntity, code: "input_invalid", title: "Input does not match the schema", details: input.Error(), category: "agent_error"}
	case errors.As(err, &invalid):
		return &failure{status: fiber.StatusBadRequest, code: "invalid_registration", title: invalid.Error(), details: invalid.Error()}
	case errors.Is(err, node.ErrUnknownNode), errors.Is(err, node.ErrUnknownFunction):
		return &failure{status: fiber.StatusNotFound, code: "target_not_found", title: "Target not found", details: err.Error(), category: "internal_error"}
	}
	return nil
}

func accessFailure(err error) *failure {
	var throttled *access.ThrottledError
	switch {
	case errors.As(err, &throttled):
		return &failure{
			status: fiber.StatusTooManyRequests, code: "too_many_attempts", title: "Too many attempts", details: throttled.Error(), retryAfter: throttled.RetryAfter,
		}
	case errors.Is(err, access.ErrCrowded):
		return &failure{status: fiber.StatusServiceUnavailable, code: "sign_in_busy", title: "Too many sign-ins", details: err.Error(), retryAfter: 3 * time.Second}
	case errors.Is(err, access.ErrUnauthorized):
		return &failure{status: fiber.StatusUnauthorized, code: "unauthorized", title: "unauthorized", details: err.Error()}
	case errors.Is(err, access.ErrForbidden):
		return &failure{status: fiber.StatusForbidden, code: "forbidden", title: "forbidden", details: err.Error()}
	case errors.Is(err, access.ErrNoUser):
		return &failure{status: fiber.StatusNotFound, code: "user_not_found", title: "user not found", details: err.Error()}
	case errors.Is(err, access.ErrNoKey):
		return &failure{status: fiber.StatusNotFound, code: "key_not_found", title: "key not found", details: err.Error()}
	case errors.Is(err, access.ErrUserExists), errors.Is(err, access.ErrLastAdmin), errors.Is(err, access.ErrFirstAdmin):
		return &failure{status: fiber.StatusConflict, code: "user_conflict", title: "Conflict", details: err.Error()}
	case isAny(err, access.ErrBadName, access.ErrBadDisplayName, access.ErrBadRole, access.ErrBadGroup, access.ErrWeakPassword, access.ErrBadKeyName,
		access.ErrBadScopes, access.ErrAgentScope, access.ErrBadExpiry, access.ErrWrongPassword, access.ErrBadBootstrap):
		return &failure{status: fiber.StatusBadRequest, code: "invalid_parameter", title: "Bad request", details: err.Error()}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &failure{status: fiber.StatusServiceUnavailable, code: "store_busy", title: "Store busy", details: "the store did not answer in time: try again", retryAfter: time.Second}
	}
	return nil
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

func frameworkFailure(err error) *failure {
	var f *fiber.Error
	if !errors.As(err, &f) {
		return nil
	}
	switch f.Code {
	case fiber.StatusRequestEntityTooLarge:
		return &failure{status: f.Code, code: "payload_too_large", title: "Payload too large", details: "the body is larger than this server accepts"}
	case fiber.StatusNotFound:
		return &failure{status: f.Code, code: "endpoint_not_found", title: "endpoint_not_found", details: f.Message}
	case fiber.StatusMethodNotAllowed:
		return &failure{status: f.Code, code: "method_not_allowed", title: "Method not allowed", details: "this path exists, but not with this method"}
	}
	if f.Code >= 500 {
		return nil
	}
	return &failure{status: f.Code, code: "bad_request", title: "Bad request", details: f.Message}
}

// sentence is the text of an error without the sentinel it wraps.
func sentence(err, sentinel error) string {
	return strings.TrimPrefix(strings.TrimSuffix(err.Error(), ": "+sentinel.Error()), sentinel.Error()+": ")
}

// json is the documented body (ruling C3, wire.md B30): error, details, code, message, and the ids that lead on.
func (f *failure) json(requestID string, problem bool, path string) []byte {
	if f.body != nil {
		whole := &object{b: f.body[:len(f.body)-1]}
		whole.text("request_id", requestID)
		return whole.end()
	}
	o := newObject(256)
	o.text("error", f.title)
	o.text("message", f.details)
	o.text("details", f.details)
	o.text("code", f.code)
	if f.category != "" {
		o.text("error_category", f.category)
	}
	if f.state != "" && !problem {
		o.text("status", f.state)
	}
	if f.executionID != "" {
		o.text("execution_id", f.executionID)
	}
	if f.runID != "" {
		o.text("run_id", f.runID)
	}
	if f.position > 0 {
		o.number("position", int64(f.position))
	}
	if f.maxBytes > 0 && !problem {
		o.number("max_bytes", int64(f.maxBytes))
	}
	o.text("request_id", requestID)
	if problem {
		o.text("type", "about:blank#"+f.code)
		o.text("title", f.title)
		o.number("status", int64(f.status))
		o.text("detail", f.details)
		o.text("instance", path)
	}
	return o.end()
}

func (f *failure) retrySeconds() string {
	return strconv.Itoa(int(math.Ceil(f.retryAfter.Seconds())))
}
