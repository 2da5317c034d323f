package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
)

// word is what a receiver gets. The agent's title and the reviewer's feedback are untrusted text.
type word struct {
	Event             string `json:"event"`
	ApprovalID        string `json:"approval_id"`
	ApprovalRequestID string `json:"approval_request_id"`
	ExecutionID       string `json:"execution_id"`
	RunID             string `json:"run_id"`
	Target            string `json:"target"`
	Title             string `json:"title"`
	Risk              string `json:"risk,omitempty"`
	Round             int    `json:"round"`
	ExpiresAt         string `json:"expires_at"`
	URL               string `json:"url"`
	Decision          string `json:"decision,omitempty"`
	DecidedBy         string `json:"decided_by,omitempty"`
	Feedback          string `json:"feedback,omitempty"`
	Timestamp         string `json:"timestamp"`
}

const instant = "2006-01-02T15:04:05.000Z"

// Word is the JSON object about what happens to a request now. The link leads to our page, never to one that an agent named.
func (s *Service) Word(kind string, a *models.Approval) ([]byte, error) {
	return encode(s.word(kind, a, s.DB.Now()))
}

// body is built once, when it happens: all attempts send the same bytes.
func (s *Service) body(kind string, a *models.Approval, now time.Time) ([]byte, error) {
	w := s.word(kind, a, now)
	if s.Format == Slack {
		return encode(map[string]string{"text": w.slack(time.UnixMilli(a.ExpiresAt))})
	}
	return encode(w)
}

func (s *Service) word(kind string, a *models.Approval, now time.Time) word {
	w := word{
		Event: kind, ApprovalID: a.ID, ApprovalRequestID: a.RequestID, ExecutionID: a.ExecutionID, RunID: a.RunID, Target: a.NodeID + "." + a.Function,
		Title: a.Title, Risk: a.Risk, Round: a.Round, ExpiresAt: time.UnixMilli(a.ExpiresAt).UTC().Format(instant),
		URL: s.PublicURL() + "/approvals/" + a.ID, Timestamp: now.UTC().Format(instant),
	}
	if !a.Status.Open() {
		w.Decision, w.DecidedBy, w.Feedback = value(a.Decision), value(a.DecidedBy), value(a.Feedback)
	}
	return w
}

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func encode(body any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, fmt.Errorf("write a notification: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// slack is the word in a sentence or two.
func (w word) slack(expires time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s*: %s\n%s", w.headline(), plain(w.Title, 300), plain(w.Target, 300))
	if w.Risk != "" {
		fmt.Fprintf(&b, ", %s risk", w.Risk)
	}
	if w.Round > 1 {
		fmt.Fprintf(&b, ", round %d", w.Round)
	}
	if w.Decision == "" {
		fmt.Fprintf(&b, ", expires %s", expires.UTC().Format("2006-01-02 15:04 UTC"))
	}
	if w.Feedback != "" {
		fmt.Fprintf(&b, "\n> %s", plain(w.Feedback, 500))
	}
	fmt.Fprintf(&b, "\n<%s|Open the request>", escape(w.URL))
	return b.String()
}

func (w word) headline() string {
	switch w.Decision {
	case "":
		return "A decision is needed"
	case string(models.Approved):
		return "Approved by " + plain(w.DecidedBy, 100)
	case string(models.Rejected):
		return "Rejected by " + plain(w.DecidedBy, 100)
	case string(models.ChangesRequested):
		return "Changes requested by " + plain(w.DecidedBy, 100)
	case string(models.ApprovalExpired):
		return "Expired without a decision"
	}
	return "Decided"
}

// plain puts untrusted text into one line of at most n characters, in which Slack sees no link, mention or formatting of the sender's.
func plain(text string, n int) string {
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) > n {
		runes = append(runes[:n-1], '…')
	}
	return escape(string(runes))
}

var escapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func escape(text string) string { return escapes.Replace(text) }
