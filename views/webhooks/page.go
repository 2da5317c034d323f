package webhooks

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/layout"
)

// ListPage is one page of the list, newest first.
type ListPage struct {
	Frame   layout.Page
	Filter  Filter
	Rows    []*models.WebhookDelivery
	Cursor  string // where this page starts; empty: at the newest
	Next    string
	Prev    string
	Any     bool   // there is a delivery at all
	Operate bool   // who looks may send again
	Target  string // a registered function, for the command of an empty server; may be empty
	Said    string // what the last act has led to; may be empty

	Pending, Retrying, Held, Failed, Most int // shown on the tabs; Most means that many or more
}

func (p ListPage) now() time.Time { return p.Frame.Now }

func (p ListPage) first() string {
	if len(p.Rows) == 0 {
		return ""
	}
	return p.Rows[0].ID
}

func (p ListPage) tabs() []components.Tab {
	counts := map[string]int{"pending": p.Pending, "retrying": p.Retrying, "held": p.Held, "failed": p.Failed}
	var all []components.Tab
	for _, s := range states() {
		f := p.Filter
		f.State = s.Value
		all = append(all, components.Tab{Label: s.Label, Href: f.Href(), Current: p.Filter.State == s.Value, Count: counts[s.Value], More: p.Most > 0 && counts[s.Value] >= p.Most})
	}
	return all
}

func (p ListPage) pager() components.Pager {
	turns := components.Turns{Cursor: p.Cursor, Next: p.Next, Prev: p.Prev}
	curl := components.Command{URL: p.Frame.BaseURL + "/api/v1" + p.Filter.Href()}.Curl()
	return components.PagerOf(len(p.Rows), turns, p.Filter.from, curl, p.now())
}

// teach is a command whose execution announces its end.
func (p ListPage) teach() string {
	target := p.Target
	if target == "" {
		target = "hello-world.greet"
	}
	return components.Command{
		Method: "POST", URL: p.Frame.BaseURL + "/api/v1/execute/async/" + target,
		Body: `{"input": {}, "webhook": {"url": "https://your-app.example/hooks", "secret": "your-webhook-secret-key"}}`,
	}.Curl()
}

func path(id string) string { return "/webhooks/" + id }

// hostOf and restOf are the parts of an address that people look for: where it goes, and what follows.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return strings.ToLower(u.Host)
}

func restOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.RequestURI()
}

// isTest reports whether the delivery was sent by hand, to try an endpoint.
func isTest(d *models.WebhookDelivery) bool { return d.Event == "webhook.test" }

func name(d *models.WebhookDelivery) string {
	return components.LookOfDelivery(d).Label + ": " + d.Event + " to " + hostOf(d.URL)
}

// response is what came of the last attempt, in short: 502 · 1.2 s.
func response(d *models.WebhookDelivery) string {
	var words string
	switch {
	case d.LastStatus != nil:
		words = strconv.Itoa(*d.LastStatus)
	case d.LastClass != nil:
		words = components.Answer(nil, d.LastClass, d.LastError)
	default:
		return ""
	}
	if d.LastLatencyMs != nil {
		words += " · " + components.Span(time.Duration(*d.LastLatencyMs)*time.Millisecond)
	}
	return words
}

func well(status *int) bool { return status != nil && *status/100 == 2 }

// waits reports whether a further attempt has its time.
func waits(d *models.WebhookDelivery, now time.Time) bool {
	return d.Status == "queued" && !d.Held() && d.AvailableAt > now.UnixMilli()
}

// ShowPage is /webhooks/{id}.
type ShowPage struct {
	Frame    layout.Page
	Delivery *models.WebhookDelivery
	Attempts []models.WebhookAttempt // oldest first
	Plan     []int64                 // ms: attempts that are left, if all fail
	Headers  []string                // names of the registered ones
	Signed   bool                    // there is a secret
	Host     *models.WebhookHost     // nil when nothing is known about it
	Endpoint *Endpoint               // that it goes to; nil: registered with the execution, or deleted
	Stamp    string                  // what the signed text begins with, of the last attempt: id.time.
	Body     []byte                  // what is sent; nil when it is no longer kept
	Snippets []Snippet
	Operate  bool
	Said     string
	Problem  string
}

// Snippet is how a receiver verifies a delivery.
type Snippet struct{ Language, Text string }

func (p ShowPage) now() time.Time { return p.Frame.Now }

// shownBody is how much of the body the page has.
const shownBody = 4 << 10

func (p ShowPage) body() string {
	text := strings.ToValidUTF8(string(p.Body[:min(len(p.Body), shownBody)]), "")
	if len(p.Body) > shownBody {
		text += "…"
	}
	return text
}

// advice says what may help, from what came of the last attempt.
func (p ShowPage) advice() string {
	d := p.Delivery
	if d.LastClass == nil || d.Status == "delivered" {
		return ""
	}
	switch *d.LastClass {
	case "3xx":
		return "Redirects are not followed: register the address that the receiver redirects to."
	case "4xx":
		switch {
		case d.LastStatus != nil && *d.LastStatus == 410:
			return "The receiver says 410 Gone: retries stopped."
		case d.LastStatus != nil && (*d.LastStatus == 401 || *d.LastStatus == 403):
			return "The receiver does not accept the signature or a header: compare the secret, and see below how to verify."
		}
		return "The receiver refuses the message: its log says why."
	case "5xx":
		return "The receiver has an error of its own: its log says why."
	case "timeout":
		return "The receiver took too long: answer at once and work afterwards."
	case "dns":
		return "The name in the address is not known: check its spelling and the name server."
	case "tls":
		return "The receiver's certificate is not trusted: renew it, or send its whole chain."
	case "refused":
		return "Nothing listens at this address: is the receiver running?"
	case "blocked":
		return "Private addresses are refused: allow this one with AGENTFIELD_WEBHOOK_ALLOWED_HOSTS."
	}
	return ""
}

// step is a mark on the line of attempts.
type step struct {
	number             int
	at                 int64
	family, icon, word string
	future             bool
}

// shownSteps is how many attempts the line has room for.
const shownSteps = 10

// steps are the attempts that were and that may come, the latest of them when there are too many. earlier were left out.
func (p ShowPage) steps() (all []step, earlier int) {
	for _, a := range p.Attempts {
		s := step{number: a.Attempt, at: a.At, family: "st-bad", icon: "cross", word: components.Answer(a.HTTPStatus, a.ErrorClass, a.Error)}
		if well(a.HTTPStatus) {
			s.family, s.icon = "st-ok", "succeeded"
		}
		all = append(all, s)
	}
	if p.Delivery.Status == "running" {
		all = append(all, step{number: p.Delivery.Attempt, at: p.now().UnixMilli(), family: "st-run", icon: "progress", word: "On its way"})
	}
	next := p.Delivery.Attempt + 1
	for i, at := range p.Plan {
		all = append(all, step{number: next + i, at: at, family: "st-wait", icon: "hourglass", word: "if needed", future: true})
	}
	if len(p.Plan) > 0 && p.Delivery.Status == "queued" {
		all[len(all)-len(p.Plan)].word = "next"
	}
	earlier = max(len(all)-shownSteps, 0)
	return all[earlier:], earlier
}

// place is where the n-th of so many marks stands on the line.
func place(n, of int) string {
	return strconv.FormatFloat((float64(n)+0.5)*100/float64(of), 'f', 2, 64) + "%"
}

// gap is the time between two marks.
func gap(from, to int64) string {
	return "+" + components.Span(time.Duration(max(to-from, 0))*time.Millisecond)
}

// ConfirmPage asks before something is done to many.
type ConfirmPage struct {
	Frame  layout.Page
	Act    string   // redeliver or stop
	Filter Filter   // frozen: until is the time of asking
	Back   string   // the list it was asked from
	IDs    []string // selected one by one; then the filter is empty
	Count  int
	More   bool // there are more than Limit, which is what is done at once
	Limit  int
}

func (p ConfirmPage) stops() bool { return p.Act == "stop" }

func (p ConfirmPage) heading() string {
	if p.stops() {
		return "Stop webhooks"
	}
	return "Send webhooks again"
}

func (p ConfirmPage) nothing() string {
	if p.stops() {
		return "There is nothing that would be tried again"
	}
	return "There is nothing to send"
}

// what says what will happen to the webhooks counted before it.
func (p ConfirmPage) what() string {
	act := "sent again now"
	if p.stops() {
		act = "tried no more"
	}
	if p.More {
		return " will be " + act + ", the oldest first. More match than the " + components.Number(p.Limit) + " that are taken at once: come back for the rest."
	}
	return " will be " + act + "."
}

func (p ConfirmPage) consequence() string {
	if p.stops() {
		return "Those that are delivered or given up already stay as they are. What is stopped is a dead letter, and can be sent again later."
	}
	return "The receiver may see duplicates: same webhook-id. Each gets a whole new schedule of attempts; those that wait for their next try are only brought forward."
}

func (p ConfirmPage) title() string {
	if p.stops() {
		return "Stop " + components.Plural(p.Count, "webhook")
	}
	return "Send " + components.Plural(p.Count, "webhook") + " again"
}
