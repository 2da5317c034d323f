package approvals

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
)

// lookOf is how a request shows itself: never by colour alone.
func lookOf(a *models.Approval, now time.Time) components.Look {
	switch a.Status {
	case models.ApprovalPending:
		if overdue(a, now) {
			return components.Look{Family: "st-bad", Icon: "hourglass", Label: "Overdue"}
		}
		return components.Look{Family: "st-wait", Icon: "waiting", Label: "Waiting for a decision"}
	case models.ApprovalHeld:
		look := lookOfDecision(decision(a))
		look.Label += ", not yet in effect"
		return look
	case models.Approved, models.Rejected, models.ChangesRequested, models.ApprovalExpired, models.ApprovalWithdrawn:
	}
	return lookOfDecision(a.Status)
}

func lookOfDecision(s models.ApprovalStatus) components.Look {
	switch s {
	case models.Approved:
		return components.Look{Family: "st-ok", Icon: "succeeded", Label: "Approved"}
	case models.Rejected:
		return components.Look{Family: "st-bad", Icon: "cross", Label: "Rejected"}
	case models.ChangesRequested:
		return components.Look{Family: "st-wait", Icon: "undo", Label: "Changes requested"}
	case models.ApprovalExpired:
		return components.Look{Family: "st-idle", Icon: "hourglass", Label: "Expired"}
	case models.ApprovalWithdrawn:
		return components.Look{Family: "st-idle", Icon: "cancelled", Label: "Withdrawn"}
	case models.ApprovalPending, models.ApprovalHeld:
	}
	return components.Look{Family: "st-idle", Icon: "info", Label: string(s)}
}

// decision is what was decided, also while it is held.
func decision(a *models.Approval) models.ApprovalStatus {
	if a.Status == models.ApprovalHeld || a.Status == models.ApprovalPending {
		return models.ApprovalStatus(given(a.Decision))
	}
	return a.Status
}

func given(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// title names a request: by its own title, else by what asks.
func title(a *models.Approval) string {
	if t := components.FirstLine(a.Title); t != "" {
		return t
	}
	return a.NodeID + "." + a.Function
}

// line is the second line of a row: who asks, and the beginning of why.
func line(a *models.Approval) string {
	if a.Summary != "" {
		return components.FirstLine(a.Summary)
	}
	return a.RequestID
}

// name is what a screen reader says of a row's link.
func name(a *models.Approval, now time.Time) string {
	parts := []string{title(a), lookOf(a, now).Label}
	if a.Status == models.ApprovalPending && !overdue(a, now) {
		parts = append(parts, components.Span(components.Instant(a.ExpiresAt).Sub(now).Truncate(time.Minute))+" left")
	}
	if risk := riskWord(a); risk != "" {
		parts = append(parts, risk)
	}
	return strings.Join(parts, ", ")
}

func overdue(a *models.Approval, now time.Time) bool { return a.ExpiresAt <= now.UnixMilli() }

// haste is how little time is left: "now" below ten minutes, "soon" below an hour.
func haste(a *models.Approval, now time.Time) string {
	switch left := components.Instant(a.ExpiresAt).Sub(now); {
	case left < 10*time.Minute:
		return "now"
	case left < time.Hour:
		return "soon"
	}
	return "later"
}

func riskWord(a *models.Approval) string {
	switch a.Risk {
	case "high":
		return "High risk"
	case "medium":
		return "Medium risk"
	case "low":
		return "Low risk"
	}
	return ""
}

func riskFamily(a *models.Approval) string {
	switch a.Risk {
	case "high":
		return "st-bad"
	case "medium":
		return "st-wait"
	}
	return "st-idle"
}

// ordinal is the round as people count: 1st, 2nd, 3rd, 11th.
func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}

// looking is who looks at a request: "you", a name, or nobody.
func looking(a *models.Approval, me string, now time.Time) string {
	if a.ClaimedBy == nil || a.ClaimedUntil == nil || *a.ClaimedUntil <= now.UnixMilli() || a.Status != models.ApprovalPending {
		return ""
	}
	return person(*a.ClaimedBy, me)
}

// person is a name as this visitor reads it.
func person(who, me string) string {
	if who == me && me != "" {
		return "you"
	}
	return who
}

// by is who decided.
func by(a *models.Approval, me string) string {
	if a.DecidedBy == nil || *a.DecidedBy == "" {
		return "the server"
	}
	return person(*a.DecidedBy, me)
}

// through is the way a decision came, when it was not this dashboard.
func through(a *models.Approval) string {
	switch given(a.Channel) {
	case "api":
		return "through the API"
	case "signature":
		return "through a signed webhook"
	case "timer":
		return "because the time was over"
	}
	return ""
}

// handed says whether the agent has the decision.
func handed(a *models.Approval, e *models.Execution) string {
	switch {
	case a.ToldAt != nil:
		return "The agent has the decision."
	case e != nil && e.Status.Terminal():
		return "The execution has ended as " + strings.ToLower(components.LookOf(e.Status).Label) + "."
	case a.Status == models.ApprovalWithdrawn:
		return ""
	}
	return "The agent has not taken the decision yet; it is offered again until it does."
}

// votes says who has approved so far, where several are needed.
func votes(item *Item, me string) string {
	a := item.Approval
	if a.Quorum < 2 {
		return ""
	}
	names := make([]string, len(item.Votes))
	for i, v := range item.Votes {
		names[i] = person(v.Voter, me)
	}
	if len(names) == 0 {
		return "Nobody has approved yet: " + strconv.Itoa(a.Quorum) + " are needed."
	}
	return strconv.Itoa(len(names)) + " of " + strconv.Itoa(a.Quorum) + " approvals so far: " + strings.Join(names, ", ") + "."
}

// expiry says what happens when nobody decides.
func expiry(a *models.Approval) string {
	if a.OnExpire == "cancel" {
		return "If nobody decides in time, the execution is cancelled."
	}
	return "If nobody decides in time, the agent is told that the request expired."
}

// before is how much earlier than this visitor somebody else decided, to go on a sentence.
func before(a *models.Approval, now time.Time) string {
	if a.DecidedAt == nil {
		return ""
	}
	early := components.Since(*a.DecidedAt, now)
	if early < time.Second {
		return ", a moment before you"
	}
	return ", " + components.Span(early.Truncate(time.Second)) + " before you"
}

// verb names a decision as what somebody wanted to do.
func verb(decision string) string {
	switch models.ApprovalStatus(decision) {
	case models.Approved:
		return "approve"
	case models.Rejected:
		return "reject"
	case models.ChangesRequested:
		return "request changes"
	case models.ApprovalPending, models.ApprovalHeld, models.ApprovalExpired, models.ApprovalWithdrawn:
	}
	return decision
}

// span is a part of a text: words, or an address that may be followed.
type span struct{ text, href string }

var address = regexp.MustCompile(`https?://[^\s<>"'` + "`" + `]+`)

// linked cuts a text into words and the web addresses in it. Nothing else of it means anything: it stays text.
func linked(s string) []span {
	var parts []span
	at := 0
	for _, place := range address.FindAllStringIndex(s, 50) {
		found := strings.TrimRight(s[place[0]:place[1]], ".,;:!?)]}")
		u, err := url.Parse(found)
		if err != nil || u.Host == "" || u.User != nil {
			continue
		}
		parts = append(parts, span{text: s[at:place[0]]}, span{text: found, href: u.String()})
		at = place[0] + len(found)
	}
	return append(parts, span{text: s[at:]})
}

// host is where an address leads.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
