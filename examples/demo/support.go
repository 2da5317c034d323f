package demo

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"time"

	"github.com/agentfield/agentfield/sdk/go/agent"
)

type greeting struct {
	Greeting string `json:"greeting"`
}

func (c company) hello(a *agent.Agent) {
	type person struct {
		Name string `json:"name" description:"Who is to be greeted"`
	}
	agent.Handle(a, "greet", func(_ context.Context, in person) (greeting, error) {
		return greeting{"Hello, " + in.Name + "!"}, nil
	}, agent.Description("Greets somebody by name."), agent.Tags("quick"))
}

// turn is one line of a conversation.
type turn struct {
	Role    string `json:"role,omitempty" description:"user or agent"`
	Content string `json:"content,omitempty"`
}

type conversation struct {
	Message             string `json:"message" description:"The customer's newest message"`
	ConversationHistory []turn `json:"conversation_history,omitempty" description:"What was said before, oldest first"`
}

// mood is what a message sounds like and what to do about it.
type mood struct {
	Sentiment      string  `json:"sentiment" enum:"frustrated,concerned,neutral,positive"`
	Confidence     float64 `json:"confidence"`
	Recommendation string  `json:"recommendation" enum:"escalate,follow_up,reply,close"`
}

// cues are phrases and how strongly they speak of trouble; negative ones speak of joy.
var cues = []struct {
	phrase string
	weight float64
}{
	{"third time", 3},
	{"second time", 2},
	{"unacceptable", 3},
	{"ridiculous", 3},
	{"angry", 3},
	{"furious", 4},
	{"terrible", 2},
	{"worst", 2},
	{"never", 1},
	{"still", 1},
	{"again", 1},
	{"broken", 1},
	{"can't", 1},
	{"cannot", 1},
	{"not work", 1},
	{"waiting", 1},
	{"refund", 1},
	{"thank", -2},
	{"great", -2},
	{"love", -2},
	{"perfect", -2},
	{"works now", -2},
	{"appreciate", -2},
}

// feel weighs the cues of a message, and at half weight those of what the customer said before.
func feel(message string, history []turn) mood {
	score := weigh(message)
	for _, t := range history {
		if t.Role != "agent" && t.Role != "assistant" {
			score += weigh(t.Content) / 2
		}
	}
	switch {
	case score >= 3:
		return mood{"frustrated", confidence(0.76, score), "escalate"}
	case score >= 1:
		return mood{"concerned", confidence(0.68, score), "follow_up"}
	case score <= -2:
		return mood{"positive", confidence(0.72, -score), "close"}
	}
	return mood{"neutral", 0.7, "reply"}
}

func weigh(text string) float64 {
	text = strings.ToLower(strings.ReplaceAll(text, "’", "'"))
	score := 0.0
	for _, cue := range cues {
		if strings.Contains(text, cue.phrase) {
			score += cue.weight
		}
	}
	if score > 0 { // an exclamation mark makes joy no trouble
		score += math.Min(float64(strings.Count(text, "!")), 2)
	}
	return score
}

func confidence(base, score float64) float64 {
	return math.Round(math.Min(base+0.04*score, 0.98)*100) / 100
}

func (c company) sentiment(a *agent.Agent) {
	type words struct {
		Text    string `json:"text,omitempty" description:"The text to judge"`
		Message string `json:"message,omitempty" description:"Another name for text"`
	}
	agent.Handle(a, "analyze", func(ctx context.Context, in words) (mood, error) {
		text := in.Text
		if text == "" {
			text = in.Message
		}
		if text == "" {
			return mood{}, agent.Errorf(422, "there is no text to judge: give text or message")
		}
		if err := c.sleep(ctx, 250*time.Millisecond); err != nil {
			return mood{}, err
		}
		return feel(text, nil), nil
	}, agent.Description("Says what a text sounds like."), agent.Tags("language"))
}

type ticket struct {
	TicketID any    `json:"ticket_id,omitempty" description:"Number or text"`
	Message  string `json:"message,omitempty" description:"What the customer wrote"`
}

type decision struct {
	TicketID  any    `json:"ticket_id,omitempty"`
	Priority  string `json:"priority" enum:"low,normal,high"`
	Escalate  bool   `json:"escalate"`
	Category  string `json:"category" enum:"access,billing,delivery,outage,general"`
	Sentiment string `json:"sentiment"`
	Reason    string `json:"reason"`
}

func (c company) support(a *agent.Agent) {
	analyze := func(ctx context.Context, in conversation) (mood, error) {
		if err := c.sleep(ctx, 400*time.Millisecond); err != nil {
			return mood{}, err
		}
		return feel(in.Message, in.ConversationHistory), nil
	}
	about := agent.Description("Judges a customer's message together with what was said before.")
	agent.Handle(a, "analyze_sentiment", analyze, about, agent.Tags("language"))
	agent.Handle(a, "support_analyze_sentiment", analyze, about, agent.Tags("language")) // as a router with the prefix "support" names it

	type request struct {
		ticket
		Ticket *ticket `json:"ticket,omitempty" description:"The ticket as one object, instead of its fields"`
	}
	agent.Handle(a, "triage_ticket", func(ctx context.Context, in request) (decision, error) {
		t := in.ticket
		if in.Ticket != nil {
			t = *in.Ticket
		}
		return c.triage(ctx, a, t)
	}, agent.Description("Decides how urgent a ticket is; asks sentiment-agent first."), agent.Tags("support"))
}

func (c company) triage(ctx context.Context, a *agent.Agent, t ticket) (decision, error) {
	if strings.TrimSpace(t.Message) == "" {
		return decision{}, agent.Errorf(422, "the ticket has no message")
	}
	agent.Note(ctx, "Reading the ticket", "triage")
	var felt mood
	if err := a.Call(ctx, "sentiment-agent.analyze", map[string]string{"text": t.Message}, &felt); err != nil {
		return decision{}, err
	}
	d := decide(t, felt)
	agent.Note(ctx, fmt.Sprintf("Triaged as %s: %s", d.Priority, d.Reason), "triage", "decision")
	return d, nil
}

// subjects are what tickets are about, the most urgent first.
var subjects = []struct {
	category string
	urgent   bool
	phrases  []string
}{
	{"outage", true, []string{"outage", "is down", "not reachable", "error 500"}},
	{"access", true, []string{"log in", "login", "sign in", "password", "locked out", "locked"}},
	{"billing", false, []string{"charged", "invoice", "refund", "payment", "bill"}},
	{"delivery", false, []string{"order", "package", "deliver", "arrived", "shipping"}},
}

func decide(t ticket, felt mood) decision {
	d := decision{TicketID: t.TicketID, Priority: "normal", Category: "general", Sentiment: felt.Sentiment}
	urgent := false
	text := strings.ToLower(t.Message)
	for _, s := range subjects {
		if d.Category == "general" && containsAny(text, s.phrases) {
			d.Category, urgent = s.category, s.urgent
		}
	}
	switch {
	case urgent:
		d.Priority, d.Escalate, d.Reason = "high", true, "the customer cannot use the product"
	case felt.Sentiment == "frustrated":
		d.Priority, d.Escalate, d.Reason = "high", true, "the customer is frustrated"
	case felt.Sentiment == "positive":
		d.Priority, d.Reason = "low", "the customer is happy"
	default:
		d.Reason = "an ordinary question about " + d.Category
	}
	return d
}

func containsAny(text string, phrases []string) bool {
	for _, phrase := range phrases {
		if strings.Contains(text, phrase) {
			return true
		}
	}
	return false
}

func (c company) escalation(a *agent.Agent) {
	type request struct {
		CustomerID any    `json:"customer_id,omitempty" description:"Number or text"`
		Sentiment  any    `json:"sentiment,omitempty" description:"What an analysis said"`
		Priority   string `json:"priority,omitempty" enum:"low,normal,high"`
		Summary    string `json:"summary,omitempty"`
	}
	type created struct {
		TicketID   string `json:"ticket_id"`
		Priority   string `json:"priority"`
		Queue      string `json:"queue"`
		SLAMinutes int    `json:"sla_minutes"`
	}
	agent.Handle(a, "create_ticket", func(ctx context.Context, in request) (created, error) {
		if err := c.sleep(ctx, 200*time.Millisecond); err != nil {
			return created{}, err
		}
		out := created{TicketID: fmt.Sprintf("ESC-%05d", number(100_000, in.CustomerID, in.Sentiment, in.Summary)), Priority: in.Priority}
		switch in.Priority {
		case "high":
			out.Queue, out.SLAMinutes = "duty-officer", 15
		case "low":
			out.Queue, out.SLAMinutes = "back-office", 24*60
		default:
			out.Priority, out.Queue, out.SLAMinutes = "normal", "second-line", 4*60
		}
		agent.Note(ctx, out.TicketID+" waits in "+out.Queue, "escalation")
		return out, nil
	}, agent.AsSkill(), agent.Description("Opens a ticket for people."), agent.Tags("support"))
}

// number is the same for the same values, below the limit, and looks arbitrary.
func number(limit uint32, values ...any) uint32 {
	h := fnv.New32a()
	for _, v := range values {
		_, _ = fmt.Fprintf(h, "%v\x00", v) // a hash takes everything; fmt prints maps sorted
	}
	return h.Sum32() % limit
}
