package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/agentfield/agentfield/sdk/go/agent"
)

type claim struct {
	ClaimID     string  `json:"claim_id" description:"Number of the claim"`
	Amount      float64 `json:"amount" description:"What the customer asks for"`
	Policy      string  `json:"policy,omitempty" description:"Number of the policy; those that begin with GOLD have the smaller deductible"`
	Description string  `json:"description,omitempty" description:"What happened"`
}

// payment is what people are asked about. They may change it.
type payment struct {
	ClaimID    string  `json:"claim_id"`
	Payee      string  `json:"payee"`
	Claimed    float64 `json:"claimed"`
	Deductible float64 `json:"deductible"`
	Amount     float64 `json:"amount"`
	Method     string  `json:"method"`
}

type settlement struct {
	ClaimID   string  `json:"claim_id"`
	Outcome   string  `json:"outcome" enum:"paid,declined,escalated"`
	Amount    float64 `json:"amount"`
	Rounds    int     `json:"rounds"`
	DecidedBy string  `json:"decided_by,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	Transfer  string  `json:"transfer,omitempty"`
}

func (c company) claims(a *agent.Agent) {
	c.cases(a)
	agent.Handle(a, "evaluate_claim", func(ctx context.Context, in claim) (settlement, error) {
		if strings.TrimSpace(in.ClaimID) == "" || !(in.Amount > 0) || in.Amount > 1e9 {
			return settlement{}, agent.Errorf(422, "a claim has a claim_id and an amount above 0 and below a billion")
		}
		agent.Progress(ctx, 0.2, "Reading the claim")
		if err := c.sleep(ctx, 300*time.Millisecond); err != nil {
			return settlement{}, err
		}
		return c.settle(ctx, in, propose(in))
	}, agent.Description("Works out what a claim is worth and pays it once a person has approved."), agent.Tags("claims", "approval"))
}

// propose works out the payment.
func propose(in claim) payment {
	p := payment{ClaimID: in.ClaimID, Payee: "Holder of " + in.Policy, Claimed: cents(in.Amount), Deductible: 150, Method: "instant transfer"}
	if in.Policy == "" {
		p.Payee = "Holder of the policy of " + in.ClaimID
	}
	if strings.HasPrefix(strings.ToUpper(in.Policy), "GOLD") {
		p.Deductible = 50
	}
	if formal(p) {
		p.Method = "bank transfer"
	}
	p.Amount = math.Max(cents(in.Amount-p.Deductible), 0)
	return p
}

const maxClaimRounds = 5

// settle asks until somebody decides, with a smaller amount after each request for changes.
func (c company) settle(ctx context.Context, in claim, p payment) (settlement, error) {
	if p.Amount == 0 {
		return settlement{ClaimID: in.ClaimID, Outcome: "declined", Reason: "the claim is not above the deductible"}, nil
	}
	why := reasoning(in, p)
	for round := 1; round <= maxClaimRounds; round++ {
		agent.Progress(ctx, 0.5, fmt.Sprintf("Waiting for a decision, round %d", round))
		d, err := agent.Pause(ctx, question(in, p, why))
		if err != nil {
			return settlement{}, err
		}
		end := settlement{ClaimID: in.ClaimID, Rounds: round, DecidedBy: d.DecidedBy, Reason: d.Feedback}
		switch d.Status {
		case agent.Approved:
			return c.pay(ctx, end, p, d)
		case agent.Rejected:
			end.Outcome = "declined"
			return end, nil
		case agent.Expired:
			end.Outcome, end.Reason = "escalated", "nobody decided in time"
			return end, nil
		}
		before := p.Amount
		p = adjust(p, d.Feedback)
		why = fmt.Sprintf("%s\n\nChanged from %.2f to %.2f, since the last round said: %s", reasoning(in, p), before, p.Amount, d.Feedback)
		agent.Note(ctx, fmt.Sprintf("Lowered the payment from %.2f to %.2f", before, p.Amount), "claims")
	}
	return settlement{
		ClaimID: in.ClaimID, Outcome: "escalated", Rounds: maxClaimRounds, Reason: fmt.Sprintf("no agreement after %d rounds", maxClaimRounds),
	}, nil
}

func question(in claim, p payment, why string) agent.PauseRequest {
	q := agent.PauseRequest{
		Title: fmt.Sprintf("Pay claim %s: %.2f", in.ClaimID, p.Amount), Description: why, Payload: p, Editable: true,
		Next: "payments.transfer, then a letter to the customer",
	}
	switch { // by what was claimed, so that a smaller proposal is not looked at less closely
	case formal(p):
		q.Risk, q.ExpiresIn, q.Editable, q.Form = "high", 4*time.Hour, false, json.RawMessage(highRiskForm)
	case p.Claimed < 1000:
		q.Risk, q.ExpiresIn = "low", 72*time.Hour
	default:
		q.Risk, q.ExpiresIn = "medium", 24*time.Hour
	}
	return q
}

// formal payments come with questions and cannot be changed: what is answered is the form.
func formal(p payment) bool { return p.Claimed >= 10_000 }

// highRiskForm asks for nothing that must be answered, so that a decision by curl is enough.
const highRiskForm = `{
  "type": "object",
  "properties": {
    "payee_called": {"type": "boolean", "title": "I have called the payee"},
    "comment": {"type": "string", "title": "Comment for the file", "maxLength": 500}
  }
}`

func reasoning(in claim, p payment) string {
	text := fmt.Sprintf("The customer claims %.2f; the policy has a deductible of %.2f.", p.Claimed, p.Deductible)
	if in.Description != "" {
		text = in.Description + "\n\n" + text
	}
	return text
}

var (
	percentage = regexp.MustCompile(`(\d+(?:\.\d+)?) ?(?:%|percent)`)
	sum        = regexp.MustCompile(`\d[\d,]*(?:\.\d+)?`)
)

// adjust lowers a payment by a rule: by the percentage that the reviewer names, else to the sum, else by a tenth.
func adjust(p payment, feedback string) payment {
	share := 0.1
	if m := percentage.FindStringSubmatch(feedback); m != nil {
		if n, err := strconv.ParseFloat(m[1], 64); err == nil && n < 100 {
			share = n / 100
		}
	} else if m := sum.FindString(feedback); m != "" {
		if n, err := strconv.ParseFloat(strings.ReplaceAll(m, ",", ""), 64); err == nil && n > 0 && n < p.Amount {
			p.Amount = cents(n)
			return p
		}
	}
	p.Amount = cents(p.Amount * (1 - share))
	return p
}

// pay carries out what was approved, which may have been changed by the reviewer.
func (c company) pay(ctx context.Context, end settlement, p payment, d agent.Decision) (settlement, error) {
	if d.Response != nil && !formal(p) {
		if err := json.Unmarshal(d.Response, &p); err != nil || !(p.Amount > 0) || p.Amount > p.Claimed {
			return settlement{}, agent.Errorf(422, "the changed payment cannot be carried out: %s", d.Response)
		}
	}
	end.Outcome, end.Amount, end.Transfer = "paid", cents(p.Amount), fmt.Sprintf("TRF-%05d", number(100_000, p))
	agent.Progress(ctx, 0.8, "Paying")
	if err := c.sleep(ctx, 500*time.Millisecond); err != nil {
		return settlement{}, err
	}
	agent.Note(ctx, fmt.Sprintf("payments.transfer %s: %.2f to %s", end.Transfer, end.Amount, p.Payee), "claims", "payment")
	agent.Note(ctx, "Wrote to the customer", "claims", "letter")
	return end, nil
}

func cents(amount float64) float64 { return math.Round(amount*100) / 100 }
