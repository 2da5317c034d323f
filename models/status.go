// Package models holds the rows of the database and the words they use. Its one invariant: which status may follow which is
// written down here and nowhere else.
package models

import (
	"slices"
	"strings"
)

// Status says where an execution stands. The words are those of the documented API; Terminal ones are final.
type Status string

// The statuses of an execution, in the order of life.
const (
	Pending   Status = "pending"   // accepted, but no healthy instance of the node exists
	Queued    Status = "queued"    // waiting for a worker
	Running   Status = "running"   // an instance of the node works on it
	Waiting   Status = "waiting"   // a person has to decide
	Paused    Status = "paused"    // an operator holds it back
	Succeeded Status = "succeeded" // ended with a result
	Failed    Status = "failed"    // ended with an error
	Timeout   Status = "timeout"   // ended because its limit was exceeded
	Cancelled Status = "cancelled" // ended by hand
)

// Statuses lists every status in the order of life.
var Statuses = []Status{Pending, Queued, Running, Waiting, Paused, Succeeded, Failed, Timeout, Cancelled}

// transitions is the state machine of requirements.md 1.4 and wire.md 5.2: what may follow each status.
var transitions = map[Status][]Status{
	Pending: {Queued, Running, Paused, Failed, Timeout, Cancelled},
	Queued:  {Pending, Running, Paused, Failed, Timeout, Cancelled},
	Running: {Queued, Waiting, Paused, Succeeded, Failed, Timeout, Cancelled},
	Waiting: {Running, Failed, Timeout, Cancelled},
	Paused:  {Running, Queued, Failed, Timeout, Cancelled},
}

// Terminal reports whether the status is final.
func (s Status) Terminal() bool {
	switch s {
	case Succeeded, Failed, Timeout, Cancelled:
		return true
	case Pending, Queued, Running, Waiting, Paused:
		return false
	}
	return false
}

// CanBecome reports whether an execution in status s may move to next.
func (s Status) CanBecome(next Status) bool {
	return slices.Contains(transitions[s], next)
}

// Before lists the statuses from which an execution may move to s, in the order of life.
func (s Status) Before() []Status {
	var from []Status
	for _, candidate := range Statuses {
		if candidate.CanBecome(s) {
			from = append(from, candidate)
		}
	}
	return from
}

// ParseStatus reads one of the canonical words, in any letter case. Filters use it: "completed" is the one alias they accept.
func ParseStatus(word string) (Status, bool) {
	word = strings.ToLower(strings.TrimSpace(word))
	if word == "completed" {
		return Succeeded, true
	}
	for _, s := range Statuses {
		if string(s) == word {
			return s, true
		}
	}
	return "", false
}

// reported maps the words that agents use to our own (wire.md 5.1).
var reported = map[string]Status{
	"success": Succeeded, "successful": Succeeded, "completed": Succeeded, "complete": Succeeded, "done": Succeeded, "ok": Succeeded,
	"error": Failed, "failure": Failed, "errored": Failed,
	"canceled": Cancelled, "cancel": Cancelled,
	"timed_out":         Timeout,
	"wait":              Queued,
	"awaiting_approval": Waiting, "awaiting_human": Waiting, "approval_pending": Waiting,
	"in_progress": Running, "processing": Running,
	"pause": Paused, "hold": Paused, "on_hold": Paused, "suspended": Paused,
}

// ReportedStatus reads a status as an agent may write it: canonical words and all aliases, trimmed, in any letter case.
func ReportedStatus(word string) (Status, bool) {
	word = strings.ToLower(strings.TrimSpace(word))
	if s, ok := reported[word]; ok {
		return s, true
	}
	return ParseStatus(word)
}
