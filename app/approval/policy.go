package approval

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/models"
)

// Policy says who may decide. The zero value: anybody with the right to approve, one of them, the requester included.
type Policy struct {
	// Approvers lists user names, "group:name" and "role:name"; empty: every reviewer.
	Approvers []string `json:"approvers,omitempty"`
	// Quorum is how many approvals are needed; one rejection is always enough. 0 means 1.
	Quorum int `json:"quorum,omitempty"`
	// NoSelfApproval keeps whoever started the execution from deciding about it.
	NoSelfApproval bool `json:"no_self_approval,omitempty"`
}

func (p Policy) check() error {
	if p.Quorum < 0 || p.Quorum > maxMembers {
		return field("policy.quorum", "must lie between 1 and %d", maxMembers)
	}
	if len(p.Approvers) > maxMembers {
		return field("policy.approvers", "at most %d", maxMembers)
	}
	people, others := map[string]bool{}, false
	for _, name := range p.Approvers {
		if name == "" || len(name) > 255 {
			return field("policy.approvers", "names have between 1 and 255 bytes")
		}
		if kind, rest, found := strings.Cut(name, ":"); !found {
			people[strings.ToLower(name)] = true
		} else if kind == "user" {
			people[strings.ToLower(rest)] = true
		} else {
			others = true
		}
	}
	if !others && len(people) > 0 && len(people) < p.Quorum {
		return field("policy.quorum", "asks for %d approvals of %d named reviewers", p.Quorum, len(people))
	}
	return nil
}

func policyOf(a *models.Approval) Policy {
	var p Policy
	if err := json.Unmarshal([]byte(a.Policy), &p); err != nil {
		return Policy{Approvers: []string{"role:admin"}} // unreadable: nobody but an administrator
	}
	return p
}

// Person is who decides, as the API has recognised them.
type Person struct {
	ID     string // of the principal
	Name   string // as policies and pages name them
	Role   string
	Groups []string
	May    bool // holds the right to approve
	Agent  bool // a credential of an agent: never decides
	Origin audit.Origin
}

// Allowed reports whether a person may decide about a request: ErrAgent, ErrNoRight, ErrNotNamed or ErrSelf if not. Every way to a
// decision asks here.
func Allowed(p Person, a *models.Approval) error {
	policy := policyOf(a)
	switch {
	case p.Agent:
		return ErrAgent
	case !p.May:
		return ErrNoRight
	case !policy.names(p):
		return ErrNotNamed
	case policy.NoSelfApproval && started(p, a):
		return ErrSelf
	}
	return nil
}

// started reports whether a person began what a request is about: by who sent the request, or by whom its sender named as the actor.
func started(p Person, a *models.Approval) bool {
	if a.StartedBy != nil && strings.EqualFold(*a.StartedBy, p.ID) {
		return true
	}
	return a.ActorID != nil && (strings.EqualFold(*a.ActorID, p.Name) || strings.EqualFold(*a.ActorID, p.ID))
}

func (p Policy) names(who Person) bool {
	if len(p.Approvers) == 0 {
		return true
	}
	return slices.ContainsFunc(p.Approvers, func(name string) bool {
		kind, rest, found := strings.Cut(name, ":")
		switch {
		case found && kind == "role":
			return strings.EqualFold(rest, who.Role)
		case found && kind == "group":
			return slices.ContainsFunc(who.Groups, func(g string) bool { return strings.EqualFold(g, rest) })
		case found && kind == "user":
			name = rest
		}
		// A service may be named like anybody; the owner of a machine without sign-in is called by their id.
		return (who.Role != "" || who.ID == who.Name) && strings.EqualFold(name, who.Name)
	})
}

// Words say the policy in sentences, for the page.
func Words(a *models.Approval) []string {
	p := policyOf(a)
	var words []string
	if len(p.Approvers) > 0 {
		words = append(words, "May be decided by "+strings.Join(p.Approvers, ", ")+".")
	}
	if a.Quorum > 1 {
		words = append(words, "Needs "+strconv.Itoa(a.Quorum)+" approvals; one rejection is enough.")
	}
	if p.NoSelfApproval {
		words = append(words, "Whoever started the execution may not decide.")
	}
	return words
}
