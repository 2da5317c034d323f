package webhook

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/agentfield/agentfield/app/secret"
	"github.com/agentfield/agentfield/models"
)

// ErrInvalid says that a webhook cannot be registered as it was given. Errors that wrap it are of type *InvalidError.
var ErrInvalid = errors.New("the webhook cannot be used")

// InvalidError carries the sentence for the caller, which names the field and never repeats a secret.
type InvalidError struct{ Details string }

func (e *InvalidError) Error() string { return ErrInvalid.Error() + ": " + e.Details }

// Unwrap makes it an ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

func invalid(format string, args ...any) error {
	return &InvalidError{Details: fmt.Sprintf(format, args...)}
}

// Limits of a registration, from the protocol.
const (
	maxHeaders   = 20
	maxHeaderLen = 512 // of a name, and of a value, in bytes
	maxSecret    = 4096
)

// owner is whose secret and headers are sealed: an execution's registration, or an endpoint.
type owner struct{ table, id string }

func ofExecution(id string) owner { return owner{"webhook_registrations", id} }
func ofEndpoint(id string) owner  { return owner{"webhook_endpoints", id} }

func (o owner) secret() secret.Place {
	return secret.Place{Table: o.table, Column: "secret", Row: o.id}
}

func (o owner) oldSecret() secret.Place {
	return secret.Place{Table: o.table, Column: "old_secret", Row: o.id}
}

func (o owner) header(name string) secret.Place {
	return secret.Place{Table: o.table, Column: "headers." + name, Row: o.id}
}

// Spec is a webhook as a caller asks for it.
type Spec struct {
	URL     string
	Secret  string
	Headers map[string]string
}

// Prepare checks the webhook of an execution and returns the row to insert with it. Secret and header values are sealed: receivers
// are often protected by a token in a header.
func (s *Service) Prepare(executionID string, spec Spec) (models.WebhookRegistration, error) {
	row := models.WebhookRegistration{ExecutionID: executionID, URL: spec.URL}
	if err := CheckURL(s.policy, spec.URL); err != nil {
		return row, invalid("webhook.url: %s", err)
	}
	if len(spec.Secret) > maxSecret {
		return row, invalid("webhook.secret is longer than %d bytes", maxSecret)
	}
	headers, err := checkHeaders(spec.Headers)
	if err != nil {
		return row, err
	}
	if spec.Secret != "" {
		if row.Secret, err = s.Box.Seal(ofExecution(executionID).secret(), []byte(spec.Secret)); err != nil {
			return row, fmt.Errorf("seal the webhook secret: %w", err)
		}
	}
	row.Headers, err = s.sealHeaders(ofExecution(executionID), headers)
	return row, err
}

// reservedHeaders would change how the request is framed, or claim to be ours. Authorization and Cookie are the caller's to set:
// receivers ask for them.
var reservedHeaders = []string{
	"Host", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Te", "Trailer", "Connection", "Keep-Alive", "Upgrade", "Expect",
}

var reservedPrefixes = []string{"X-Agentfield-", "Webhook-", "Proxy-"}

// checkHeaders returns the headers under their canonical names.
func checkHeaders(given map[string]string) (map[string]string, error) {
	if len(given) > maxHeaders {
		return nil, invalid("webhook.headers has more than %d entries", maxHeaders)
	}
	headers := make(map[string]string, len(given))
	for name, value := range given {
		if err := checkHeader(name, value); err != nil {
			return nil, err
		}
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		if _, twice := headers[canonical]; twice {
			return nil, invalid("webhook.headers names %s twice", canonical)
		}
		if canonical != "Content-Type" {
			headers[canonical] = value
		}
	}
	return headers, nil
}

func checkHeader(name, value string) error {
	if len(name) > maxHeaderLen || len(value) > maxHeaderLen {
		return invalid("webhook.headers: names and values may have at most %d bytes", maxHeaderLen)
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return invalid("webhook.headers: %q is not a valid header name", name)
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		return invalid("webhook.headers: the value of %s contains characters that a header cannot carry", name)
	}
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	if canonical == "Content-Type" {
		if media, _, err := mime.ParseMediaType(value); err != nil || media != "application/json" {
			return invalid("webhook.headers: Content-Type is always application/json")
		}
		return nil
	}
	reserved := func(prefix string) bool { return strings.HasPrefix(canonical, prefix) }
	if slices.Contains(reservedHeaders, canonical) || slices.ContainsFunc(reservedPrefixes, reserved) {
		return invalid("webhook.headers: %s is set by this server and cannot be replaced", name)
	}
	return nil
}

// sealHeaders gives the JSON object for the column headers: plain names, sealed values in base64.
func (s *Service) sealHeaders(o owner, headers map[string]string) (*string, error) {
	if len(headers) == 0 {
		return nil, nil //nolint:nilnil // no headers, no column
	}
	sealed := make(map[string][]byte, len(headers))
	for name, value := range headers {
		var err error
		if sealed[name], err = s.Box.Seal(o.header(name), []byte(value)); err != nil {
			return nil, fmt.Errorf("seal the webhook header %s: %w", name, err)
		}
	}
	text, err := json.Marshal(sealed)
	if err != nil {
		return nil, fmt.Errorf("store the webhook headers: %w", err)
	}
	column := string(text)
	return &column, nil
}

func (s *Service) openHeaders(o owner, column *string) (map[string]string, error) {
	if column == nil {
		return nil, nil
	}
	var sealed map[string]string
	if err := json.Unmarshal([]byte(*column), &sealed); err != nil {
		return nil, fmt.Errorf("read the webhook headers: %w", err)
	}
	headers := make(map[string]string, len(sealed))
	for name, text := range sealed {
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("read the webhook header %s: %w", name, err)
		}
		if value, err = s.Box.Open(o.header(name), value); err != nil {
			return nil, fmt.Errorf("open the webhook header %s: %w", name, err)
		}
		headers[name] = string(value)
	}
	return headers, nil
}
