package approval

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Request is what an agent asks (wire.md 3.11, requirements.md 4 ranks 4 and 5). Only the execution is necessary.
type Request struct {
	Token       string // X-Execution-Token
	Node        string // of the path's agent form; empty: not checked
	Key         string // Idempotency-Key: the same execution with the same one gets the first answer again
	RequestID   string
	URL         string
	Callback    string
	Title       string
	Description string
	Risk        string
	Next        string // what happens after an approval, in words
	Payload     []byte // JSON
	Form        []byte // JSON Schema of an object
	Editable    bool
	ExpiresIn   time.Duration
	OnReject    string
	OnExpire    string
	Policy      Policy
}

const (
	maxTitle   = 300
	maxText    = 64 << 10
	maxBody    = 1 << 20
	maxURL     = 2048
	longest    = 365 * 24 * time.Hour
	shortest   = time.Second
	maxMembers = 50
)

var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

func newID() string {
	id := uuid.Must(uuid.NewV7())
	return "appr_" + crockford.EncodeToString(id[:])
}

// keyedID is the id of the request that an execution makes with a key: who repeats it finds the first.
func keyedID(executionID, key string) string {
	sum := sha256.Sum256([]byte(executionID + "\n" + key))
	return "appr_" + crockford.EncodeToString(sum[:16])
}

// Ask moves a running execution to waiting and puts the request into the queue of the reviewers. Errors: *FieldError, ErrIDInUse,
// ErrNotYours, and those of execution.Suspend.
func (s *Service) Ask(ctx context.Context, executionID string, r Request) (*models.Approval, error) {
	if err := s.check(&r); err != nil {
		return nil, err
	}
	var a *models.Approval
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		a, err = s.ask(ctx, tx, executionID, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.due.Wake()
	return a, nil
}

func (s *Service) ask(ctx context.Context, tx *database.Tx, executionID string, r Request) (*models.Approval, error) {
	row, err := s.Executions.LockFor(ctx, tx, executionID, r.Token)
	if err != nil {
		return nil, err
	}
	if r.Node != "" && r.Node != row.NodeID {
		return nil, ErrNotYours
	}
	id := newID()
	if r.Key != "" {
		id = keyedID(executionID, r.Key)
		if before, err := first(tx.Query(ctx, "SELECT "+columns+" FROM approvals WHERE id = $1", id)); !errors.Is(err, ErrNotFound) {
			return before, err
		}
	}
	if row, err = s.Executions.Suspend(ctx, tx, row); err != nil {
		return nil, err
	}
	now := s.DB.NowMs()
	policy, err := json.Marshal(r.Policy)
	if err != nil {
		return nil, fmt.Errorf("write a policy: %w", err)
	}
	a := &models.Approval{
		ID: id, RequestID: r.RequestID, ExecutionID: row.ID, RunID: row.RunID, NodeID: row.NodeID, Function: row.Function, SessionID: row.SessionID,
		ActorID: row.ActorID, Round: row.Rounds, Status: models.ApprovalPending, Version: 1, Title: r.Title, Summary: r.Description, Risk: r.Risk, Next: r.Next,
		Shape: shape(row.NodeID, row.Function, r.Risk, r.Payload), Editable: r.Editable && r.Payload != nil, HasForm: r.Form != nil, URL: r.URL,
		Callback: optional(r.Callback), Policy: string(policy), Quorum: max(r.Policy.Quorum, 1), OnReject: r.OnReject, OnExpire: r.OnExpire,
		CreatedAt: now, ExpiresAt: now + r.ExpiresIn.Milliseconds(),
	}
	if a.RequestID == "" {
		a.RequestID = a.ID
	}
	if a.StartedBy, err = s.Executions.StartedBy(ctx, tx, row.ID); err != nil {
		return nil, err
	}
	if a.URL == "" {
		a.URL = s.PublicURL() + "/approvals/" + a.ID
	}
	if err := insert(ctx, tx, a); err != nil {
		return nil, err
	}
	if r.Payload != nil || r.Form != nil {
		_, err := tx.Exec(ctx, "INSERT INTO approval_bodies (approval_id, payload, form) VALUES ($1, $2, $3)", a.ID, orNull(r.Payload), orNull(r.Form))
		if err != nil {
			return nil, fmt.Errorf("store what is proposed: %w", err)
		}
	}
	if err := s.announce(ctx, tx, "approval.requested", a); err != nil {
		return nil, err
	}
	return a, s.happened(ctx, tx, a, now)
}

// orNull is a body that is missing: SQLite would take a nil slice for an empty text, which is no JSON.
func orNull(body []byte) any {
	if body == nil {
		return nil
	}
	return body
}

func insert(ctx context.Context, tx *database.Tx, a *models.Approval) error {
	n, err := tx.Exec(ctx, `INSERT INTO approvals (id, request_id, execution_id, run_id, node_id, function, session_id, actor_id, round, status, version,
		title, summary, risk, next, shape, editable, has_form, url, callback, policy, quorum, on_reject, on_expire, created_at, expires_at, started_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)
		ON CONFLICT DO NOTHING`,
		a.ID, a.RequestID, a.ExecutionID, a.RunID, a.NodeID, a.Function, a.SessionID, a.ActorID, a.Round, string(a.Status), a.Version, a.Title, a.Summary,
		a.Risk, a.Next, a.Shape, a.Editable, a.HasForm, a.URL, a.Callback, a.Policy, a.Quorum, a.OnReject, a.OnExpire, a.CreatedAt, a.ExpiresAt, a.StartedBy)
	if err != nil {
		return fmt.Errorf("store an approval request: %w", err)
	}
	if n == 0 {
		return ErrIDInUse
	}
	return nil
}

// check completes the request and refuses what cannot be shown or kept.
func (s *Service) check(r *Request) error {
	if r.ExpiresIn == 0 {
		r.ExpiresIn = s.DefaultExpiry
	}
	if r.ExpiresIn < shortest || r.ExpiresIn > longest {
		return field("expires_in_hours", "must lie between 1 second and 1 year")
	}
	for name, text := range map[string]struct {
		value string
		most  int
	}{
		"approval_request_id": {r.RequestID, 255}, "approval_request_url": {r.URL, maxURL}, "callback_url": {r.Callback, maxURL},
		"title": {r.Title, maxTitle}, "description": {r.Description, maxText}, "next": {r.Next, maxText},
	} {
		if len(text.value) > text.most {
			return field(name, "is longer than %d bytes", text.most)
		}
		if !utf8.ValidString(text.value) || strings.ContainsRune(text.value, 0) {
			return field(name, "is not valid text")
		}
	}
	for name, body := range map[string][]byte{"payload": r.Payload, "form": r.Form} {
		if body != nil && !isJSON(body) {
			return field(name, "is not valid JSON of at most %d bytes", maxBody)
		}
	}
	if r.Risk != "" && !slices.Contains([]string{"low", "medium", "high"}, r.Risk) {
		return field("risk", "is low, medium or high")
	}
	if err := checkURLs(s, r); err != nil {
		return err
	}
	if err := s.checkEnds(r); err != nil {
		return err
	}
	if err := r.Policy.check(); err != nil {
		return err
	}
	_, err := compileForm(r.Form)
	return err
}

// isJSON reports whether a text is JSON that both databases and every agent can read.
func isJSON(body []byte) bool { return len(body) <= maxBody && utf8.Valid(body) && json.Valid(body) }

func checkURLs(s *Service, r *Request) error {
	if r.URL != "" && !strings.HasPrefix(r.URL, "https://") && !strings.HasPrefix(r.URL, "http://") {
		return field("approval_request_url", "must begin with http:// or https://")
	}
	if r.Callback != "" {
		if err := s.CheckCallback(r.Callback); err != nil {
			return field("callback_url", "%s", err)
		}
	}
	return nil
}

func (s *Service) checkEnds(r *Request) error {
	for _, end := range []struct {
		name  string
		value *string
		other string
	}{{"on_reject", &r.OnReject, s.OnReject}, {"on_expire", &r.OnExpire, s.OnExpire}} {
		if *end.value == "" {
			*end.value = end.other
		}
		if *end.value != "resume" && *end.value != "cancel" {
			return field(end.name, "is resume or cancel")
		}
	}
	return nil
}

var errRemote = errors.New("remote references are not followed")

type noRemote struct{}

func (noRemote) Load(string) (any, error) { return nil, errRemote }

// compileForm reads the schema of the answers; nil when there is none.
func compileForm(form []byte) (*jsonschema.Schema, error) {
	if form == nil {
		return nil, nil //nolint:nilnil // no form is the ordinary case
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(form))
	if err != nil {
		return nil, field("form", "is not valid JSON")
	}
	if _, ok := doc.(map[string]any); !ok {
		return nil, field("form", "must be a JSON Schema object")
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noRemote{})
	if err := c.AddResource("mem:form", doc); err != nil {
		return nil, field("form", "cannot be read: %s", err)
	}
	schema, err := c.Compile("mem:form")
	if err != nil {
		return nil, field("form", "is not a JSON Schema: %s", err)
	}
	return schema, nil
}

// shape is the fingerprint of requests that look alike: function, risk and the names of what is proposed.
func shape(node, function, risk string, body []byte) string {
	var keys []string
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) == nil {
		for key := range object {
			keys = append(keys, key)
		}
		slices.Sort(keys)
	}
	sum := sha256.Sum256([]byte(node + "\n" + function + "\n" + risk + "\n" + strings.Join(keys, "\n")))
	return hex.EncodeToString(sum[:8])
}
