package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Error is a failure with an HTTP status of its own. Any other error that a function returns is answered with 500.
type Error struct {
	Status  int // 400 to 599
	Message string
	Details any // optional; shown with the failed execution
	cause   error
}

// Errorf makes a failure that the control plane sees with the given status: 4xx says that the caller must change something, 5xx that
// trying again may help. The format is that of fmt.Errorf, %w included.
func Errorf(status int, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Status: status, Message: err.Error(), cause: errors.Unwrap(err)}
}

// WithDetails adds a value, written as JSON, that explains the failure to a program.
func (e *Error) WithDetails(details any) *Error {
	e.Details = details
	return e
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the error that was wrapped with %w.
func (e *Error) Unwrap() error { return e.cause }

// CallError says that a call of another function did not succeed.
type CallError struct {
	Target      string
	ExecutionID string          // empty if the call was refused before there was an execution
	Status      string          // failed, timeout or cancelled; empty if it was refused
	HTTPStatus  int             // of the refusal; 0 if there was an execution
	Code        string          // the control plane's word for it: target_not_found, input_invalid, …; may be empty
	Message     string          // what the called function, or the control plane, said
	Details     json.RawMessage // of the failed function; may be nil
}

func (e *CallError) Error() string {
	switch {
	case e.ExecutionID == "":
		return fmt.Sprintf("%s was refused: %s", e.Target, e.Message)
	case e.Message == "":
		return fmt.Sprintf("%s (%s) ended %s", e.Target, e.ExecutionID, e.Status)
	}
	return fmt.Sprintf("%s (%s) ended %s: %s", e.Target, e.ExecutionID, e.Status, e.Message)
}

// outcome is how an execution ended, in the words of HTTP.
type outcome struct {
	status  int
	result  json.RawMessage // when it succeeded
	message string          // when it failed
	details json.RawMessage
}

func (o outcome) failed() bool { return o.status >= 400 }

// body is what the control plane gets as the answer to its call.
func (o outcome) body() []byte {
	if !o.failed() {
		return o.result
	}
	return errorBody(o.message, o.details)
}

func errorBody(message string, details json.RawMessage) []byte {
	body := map[string]any{"error": message}
	if details != nil {
		body["error_details"] = details
	}
	encoded, err := json.Marshal(body)
	if err != nil { // a string and valid JSON always encode
		return []byte(`{"error":"the failure cannot be written as JSON"}`)
	}
	return encoded
}

// outcomeOf judges what a function returned.
func outcomeOf(value any, err error) outcome {
	if err != nil {
		return failureOf(err)
	}
	result, err := json.Marshal(value)
	if err != nil {
		return outcome{status: http.StatusInternalServerError, message: "the result cannot be written as JSON: " + err.Error()}
	}
	return outcome{status: http.StatusOK, result: result}
}

func failureOf(err error) outcome {
	o := outcome{status: http.StatusInternalServerError, message: err.Error()}
	if own, ok := errors.AsType[*Error](err); ok {
		if own.Status >= 400 && own.Status <= 599 {
			o.status = own.Status
		}
		if details, err := json.Marshal(own.Details); err == nil && own.Details != nil {
			o.details = details
		}
	}
	return o
}
