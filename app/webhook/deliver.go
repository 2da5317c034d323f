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
	"github.com/agentfield/agentfield/app/secret"
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
	event     string
	url       string
	host      string // scheme, name and port, for fairness
	owner     owner
	endpoint  string           // id; empty: registered with the execution
	execution models.Execution // without an id: of none
	fixed     *string          // the body; nil: made of the execution
	receiver  string           // the host as it is listed
	state     string           // of the receiver; empty: nothing is known
	probing   bool             // the receiver is paused, and tried now and then
	released  bool             // may pass although the receiver is not open
	secret    []byte           // sealed
	oldSecret []byte           // sealed; signs beside, after a rotation
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
	if !m.mayPass() {
		s.hold(ctx, c, m)
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

// selectMessage: a secret that was replaced counts until $2.
func selectMessage(host string) string {
	return `SELECT d.event, d.url, d.execution_id, d.endpoint_id, d.body, coalesce(d.hold, '') = 'released', coalesce(r.secret, p.secret),
	CASE WHEN p.old_secret_until > $2 THEN p.old_secret END, coalesce(r.headers, p.headers), r.execution_id IS NOT NULL OR p.id IS NOT NULL,
	d.host, coalesce(h.state, ''), h.probe_at IS NOT NULL
	FROM (SELECT *, ` + host + ` AS host FROM webhook_deliveries WHERE id = $1) d
	LEFT JOIN webhook_registrations r ON r.execution_id = d.execution_id AND d.endpoint_id = ''
	LEFT JOIN webhook_endpoints p ON p.id = d.endpoint_id LEFT JOIN webhook_hosts h ON h.host = d.host`
}

// load reads the message, again and again while the database is away: the row is ours and nobody else would look after it.
func (s *Service) load(ctx context.Context, id string) (message, error) {
	m := message{id: id}
	err := s.patiently(ctx, "read a webhook delivery", func() error {
		var registered bool
		err := s.DB.QueryRow(ctx, s.selectMessage, []any{id, s.DB.NowMs()}, &m.event, &m.url, &m.execution.ID, &m.endpoint, &m.fixed, &m.released,
			&m.secret, &m.oldSecret, &m.headers, &registered, &m.receiver, &m.state, &m.probing)
		if errors.Is(err, database.ErrNoRows) || (err == nil && !registered) {
			return errExecutionGone
		}
		return err
	})
	m.owner = ofExecution(m.execution.ID)
	if m.endpoint != "" {
		m.owner = ofEndpoint(m.endpoint)
	}
	if u, parseErr := url.Parse(m.url); parseErr == nil {
		m.host = u.Scheme + "://" + strings.ToLower(u.Host)
	}
	if err == nil && m.execution.ID != "" {
		err = s.loadExecution(ctx, &m)
	}
	return m, err
}

// loadExecution reads what the message is about. What was said when it happened can still be sent when the execution is gone.
func (s *Service) loadExecution(ctx context.Context, m *message) error {
	return s.patiently(ctx, "read the execution of a webhook", func() error {
		err := s.readExecution(ctx, m.execution.ID, &m.execution)
		if errors.Is(err, database.ErrNoRows) {
			if m.fixed != nil {
				return nil
			}
			return errExecutionGone
		}
		return err
	})
}

const selectPayload = `SELECT encoding, body FROM execution_payloads WHERE execution_id = $1 AND kind = $2`

// body is the bytes to send: what was kept, or made of the execution and its payload.
func (s *Service) body(ctx context.Context, event string, fixed *string, e *models.Execution) ([]byte, error) {
	if fixed != nil {
		return []byte(*fixed), nil
	}
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
	return buildBody(event, e, stored), nil
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
	if large := m.execution.ResultBytes; large > largeBody && m.fixed == nil {
		share := min(2*large, largeBodyBudget)
		if err := s.memory.Acquire(ctx, share); err != nil {
			return outcome{}, err
		}
		defer s.memory.Release(share)
	}
	body, err := s.body(ctx, m.event, m.fixed, &m.execution)
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
	headers, err := s.openHeaders(m.owner, m.headers)
	if err != nil {
		return nil, err
	}
	key, err := s.openSecret(m.owner.secret(), m.secret)
	if err != nil {
		return nil, err
	}
	old, err := s.openSecret(m.owner.oldSecret(), m.oldSecret)
	if err != nil {
		return nil, err
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
	signBoth(req.Header, m.id, at, body, key, old)
	return req, nil
}

// openSecret is nil when there is none. SQLite gives a NULL back as an empty value.
func (s *Service) openSecret(place secret.Place, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	key, err := s.Box.Open(place, sealed)
	if err != nil {
		return nil, fmt.Errorf("open the webhook secret: %w", err)
	}
	return key, nil
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
