package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

// The classes of what may go wrong with an attempt.
const (
	classTimeout    = "timeout"    // no answer within the limit
	classDNS        = "dns"        // the name does not resolve
	classTLS        = "tls"        // no trusted encrypted connection
	classRefused    = "refused"    // nobody listens there
	classBlocked    = "blocked"    // the policy forbids the address
	classConnection = "connection" // anything else before an answer
	classStatus     = "status"     // an answer that is not 2xx
	classUnsendable = "unsendable" // nothing could be sent; not an attempt, and not repeated
)

const (
	maxResponseKept = 16 << 10
	userAgent       = "AgentField-Webhook/1"
)

var errExecutionGone = errors.New("the execution or its webhook no longer exists")

// message is everything that a delivery is made of but the payload.
type message struct {
	id        string // of the delivery
	url       string
	host      string // scheme, name and port, for fairness
	execution models.Execution
	secret    []byte // sealed
	headers   *string
}

// outcome is what came of an attempt.
type outcome struct {
	at         time.Time
	took       time.Duration
	status     *int
	class      string // "": delivered
	text       string // a sentence about class
	response   string
	retryAfter time.Duration
	final      bool // no further attempt would help
}

// word is the outcome as lists are filtered by it: the first digit of an answer, else why there was none.
func (o outcome) word() string {
	if o.status != nil {
		return strconv.Itoa(*o.status/100) + "xx"
	}
	return o.class
}

// deliver is one attempt. The lease is held; whatever is said about the row is fenced by it.
func (s *Service) deliver(ctx context.Context, c lease.Claimed) {
	term := s.Replica.Term()
	if term.ID != c.Owner {
		return // the lease was lost meanwhile: the row is somebody else's
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(term.Context(), cancel)() //nolint:contextcheck // the term is a second reason to end

	m, err := s.load(ctx, c.ID)
	if err != nil {
		s.abandon(ctx, c, m, err)
		return
	}
	if ok, later := s.hosts.enter(ctx, m.host); !ok {
		s.putBack(ctx, c, later)
		return
	}
	began := time.Now()
	o, err := s.attempt(ctx, m)
	s.hosts.leave(m.host, time.Since(began), err == nil && seemsWell(o))
	if err != nil {
		s.abandon(ctx, c, m, err)
		return
	}
	s.settle(ctx, c, m, o)
}

// abandon ends an attempt in which nothing was sent: because we are stopping, or because nothing can be.
func (s *Service) abandon(ctx context.Context, c lease.Claimed, m message, err error) {
	if ctx.Err() != nil {
		s.putBack(ctx, c, 0)
		return
	}
	s.Log.Error("a webhook cannot be sent", "execution_id", m.execution.ID, "delivery_id", c.ID, "error", err)
	s.settle(ctx, c, m, outcome{at: s.DB.Now(), class: classUnsendable, text: err.Error(), final: true})
}

func seemsWell(o outcome) bool {
	if o.status == nil {
		return false
	}
	switch *o.status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

const selectMessage = `SELECT d.url, r.secret, r.headers, e.id, e.run_id, e.workflow_id, e.session_id, e.actor_id, e.node_id, e.function,
	e.function_kind, e.status, e.status_reason, e.attempt, e.context, e.created_at, e.started_at, e.finished_at, e.error_category,
	e.error_message, e.result_bytes
	FROM webhook_deliveries d JOIN executions e ON e.id = d.execution_id JOIN webhook_registrations r ON r.execution_id = d.execution_id
	WHERE d.id = $1`

// load reads the message, again and again while the database is away: the row is ours and nobody else would look after it.
func (s *Service) load(ctx context.Context, id string) (message, error) {
	m := message{id: id}
	e := &m.execution
	err := s.patiently(ctx, "read a webhook delivery", func() error {
		err := s.DB.QueryRow(ctx, selectMessage, []any{id}, &m.url, &m.secret, &m.headers, &e.ID, &e.RunID, &e.WorkflowID, &e.SessionID,
			&e.ActorID, &e.NodeID, &e.Function, &e.FunctionKind, &e.Status, &e.StatusReason, &e.Attempt, &e.Context, &e.CreatedAt,
			&e.StartedAt, &e.FinishedAt, &e.ErrorCategory, &e.ErrorMessage, &e.ResultBytes)
		if errors.Is(err, database.ErrNoRows) {
			return errExecutionGone
		}
		return err
	})
	if u, parseErr := url.Parse(m.url); parseErr == nil {
		m.host = u.Scheme + "://" + strings.ToLower(u.Host)
	}
	return m, err
}

const selectPayload = `SELECT encoding, body FROM execution_payloads WHERE execution_id = $1 AND kind = $2`

// body reads the payload and builds the bytes to send.
func (s *Service) body(ctx context.Context, e *models.Execution) ([]byte, error) {
	kind := models.PayloadErrorDetails
	if e.Status == models.Succeeded {
		kind = models.PayloadResult
	}
	var stored []byte
	err := s.patiently(ctx, "read the result for a webhook", func() error {
		var encoding int16
		err := s.DB.QueryRow(ctx, selectPayload, []any{e.ID, kind}, &encoding, &stored)
		if errors.Is(err, database.ErrNoRows) {
			stored = nil
			return nil
		}
		if err != nil {
			return err
		}
		if stored, err = s.Codec.Decode(encoding, stored); err != nil {
			return fmt.Errorf("%w: %w", errUnreadable, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return buildBody(e, stored), nil
}

var errUnreadable = errors.New("the stored payload cannot be read")

// patiently repeats fn until it succeeds, its error is about the data, or ctx ends.
func (s *Service) patiently(ctx context.Context, what string, fn func() error) error {
	for n := 1; ; n++ {
		err := fn()
		if err == nil || errors.Is(err, errExecutionGone) || errors.Is(err, errUnreadable) || ctx.Err() != nil {
			return err
		}
		if n == 1 {
			s.Log.Error("the database does not answer; trying again", "act", what, "error", err)
		}
		if !lease.Rest(ctx, lease.Backoff{First: 100 * time.Millisecond, Max: 10 * time.Second}.Delay(n)) {
			return err
		}
	}
}

// attempt sends the message once. What the receiver does is an outcome; an error means that nothing was sent, or that we are stopping.
func (s *Service) attempt(ctx context.Context, m message) (outcome, error) {
	if large := m.execution.ResultBytes; large > largeBody {
		share := min(2*large, largeBodyBudget)
		if err := s.memory.Acquire(ctx, share); err != nil {
			return outcome{}, err
		}
		defer s.memory.Release(share)
	}
	body, err := s.body(ctx, &m.execution)
	if err != nil {
		return outcome{}, err
	}
	at := s.DB.Now()
	req, err := s.request(ctx, m, at, body)
	if err != nil {
		return outcome{}, err
	}
	began := time.Now()
	o := s.exchange(req)
	o.at, o.took = at, time.Since(began)
	if o.status == nil && ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	return o, nil
}

func (s *Service) request(ctx context.Context, m message, at time.Time, body []byte) (*http.Request, error) {
	headers, err := s.openHeaders(m.execution.ID, m.headers)
	if err != nil {
		return nil, err
	}
	var key []byte
	if len(m.secret) > 0 { // SQLite gives a NULL back as an empty value
		if key, err = s.Box.Open(secretPlace(m.execution.ID), m.secret); err != nil {
			return nil, fmt.Errorf("open the webhook secret: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("User-Agent", userAgent)
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/json")
	Sign(req.Header, m.id, at, body, key)
	return req, nil
}

// exchange never fails: failure is an outcome.
func (s *Service) exchange(req *http.Request) outcome {
	resp, err := s.client.Do(req)
	if err != nil {
		class := classify(err)
		return outcome{class: class, text: explain(class, err)}
	}
	defer func() { _ = resp.Body.Close() }()
	o := outcome{status: &resp.StatusCode, response: keep(readLimited(resp.Body, maxResponseKept))}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return o
	}
	o.class = classStatus
	o.text = fmt.Sprintf("the receiver answered %d", resp.StatusCode)
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		o.text += "; redirects are not followed"
	}
	o.final = resp.StatusCode == http.StatusGone
	o.retryAfter = retryAfter(resp.Header.Get("Retry-After"), s.DB.Now())
	return o
}

// classify sorts what went wrong before an answer.
func classify(err error) string {
	var dns *net.DNSError
	var network net.Error
	switch {
	case errors.Is(err, ErrBlocked):
		return classBlocked
	case errors.As(err, &dns):
		return classDNS
	case errors.As(err, &network) && network.Timeout():
		return classTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return classRefused
	case aboutTLS(err):
		return classTLS
	}
	return classConnection
}

func aboutTLS(err error) bool {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var op *net.OpError
	alert := errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") // how crypto/tls wraps its alerts
	return alert || errors.As(err, &certificate) || errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch)
}

// Explain says in a sentence why a request of NewClient's client got no answer, without the address it went to.
func Explain(err error) string { return explain(classify(err), err) }

// explain gives the sentence for the record. A blocked address is not named: who may register a webhook need not learn our network.
func explain(class string, err error) string {
	switch class {
	case classBlocked:
		return "the host leads to an address that webhooks may not reach from this server"
	case classTimeout:
		return "the receiver did not answer in time"
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return err.Error()
}

// retryAfter reads the header in both its forms; 0 when there is none.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second //nolint:gosec // 31 bits of seconds fit
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// keep makes text of an answer that both databases can store.
func keep(answer []byte) string {
	text := strings.ReplaceAll(strings.ToValidUTF8(string(answer), "\uFFFD"), "\x00", "")
	if len(text) <= maxResponseKept {
		return text
	}
	cut := maxResponseKept
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}
