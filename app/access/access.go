// Package access says who acts and what they may do: people with sessions, programs with keys, and everybody on a machine that has
// neither. Its invariant: every act is judged by the one method Principal.Can, and whoever acts as an agent never approves anything.
package access

import (
	"errors"
	"fmt"
	"slices"
)

// Scope is one right. A route demands exactly one.
type Scope string

// The scopes. The zero value is no scope at all: a route with it is a mistake in wiring.
const (
	Public  Scope = "public"  // nobody needs to be known
	Execute Scope = "execute" // start and cancel executions
	Read    Scope = "read"    // see what happens
	Approve Scope = "approve" // decide what waits for a person
	Operate Scope = "operate" // look after executions, nodes and webhooks
	Admin   Scope = "admin"   // look after people, keys and the record of what they did
	Agent   Scope = "agent"   // register, report, note
)

// Scopes lists those that a key may hold.
func Scopes() []Scope { return []Scope{Read, Execute, Approve, Operate, Admin, Agent} }

// Role is what a person may do.
type Role string

// The roles. Each can do what a viewer can.
const (
	Viewer        Role = "viewer"
	Reviewer      Role = "reviewer"
	Operator      Role = "operator"
	Administrator Role = "admin"
)

// Roles lists them, the least first.
func Roles() []Role { return []Role{Viewer, Reviewer, Operator, Administrator} }

// Scopes are the rights of a role. None holds Agent: people are not agents.
func (r Role) Scopes() []Scope {
	switch r {
	case Viewer:
		return []Scope{Read}
	case Reviewer:
		return []Scope{Read, Approve}
	case Operator:
		return []Scope{Read, Execute, Operate}
	case Administrator:
		return []Scope{Read, Execute, Approve, Operate, Admin}
	}
	return nil
}

// Kind is how somebody proved who they are.
type Kind string

// The kinds. The zero value is nobody.
const (
	KindLocal Kind = "local" // nothing was demanded: everybody on this machine
	KindUser  Kind = "user"  // a session
	KindKey   Kind = "key"   // a key, of a person or of a service
	KindAgent Kind = "agent" // a key with the scope agent, or a request with the marks of an agent
)

// What a caller is told.
var (
	ErrUnauthorized = errors.New("this server demands a credential: send it as 'X-API-Key: …' or 'Authorization: Bearer …'")
	ErrForbidden    = errors.New("this credential does not hold the right that the request needs")
)

// Principal is who acts.
type Principal struct {
	ID          string // user:alice, key:…, api-key or local: in the record, and the scope of idempotency keys. A person's key has the person's
	Name        string // of the person or of the key; approval policies name people by it
	DisplayName string
	Kind        Kind
	Role        Role     // of a person; empty for services
	Groups      []string // of a person
	KeyID       string   // the key that was used, if one was
	scopes      []Scope
}

// Can reports whether the principal holds a scope. What holds Agent cannot approve, whatever else it holds: no configuration, no row and
// no mistake elsewhere can change that.
func (p Principal) Can(scope Scope) bool {
	if scope == Public {
		return true
	}
	if scope == Approve && p.IsAgent() {
		return false
	}
	return slices.Contains(p.scopes, scope)
}

// IsAgent reports whether the principal acts as an agent. The owner of a machine without sign-in is none.
func (p Principal) IsAgent() bool {
	return p.Kind == KindAgent || p.Kind != KindLocal && slices.Contains(p.scopes, Agent)
}

// Person reports whether the principal is somebody with a name of their own, by session or by their own key.
func (p Principal) Person() bool { return p.Role != "" }

// Scopes are the rights that the principal really has.
func (p Principal) Scopes() []Scope {
	var held []Scope
	for _, scope := range Scopes() {
		if p.Can(scope) {
			held = append(held, scope)
		}
	}
	return held
}

// AsAgent is the principal with no more than the rights of an agent: for requests that carry the marks of one.
func (p Principal) AsAgent() Principal {
	p.Kind = KindAgent
	p.scopes = slices.DeleteFunc(slices.Clone(p.scopes), func(s Scope) bool { return s != Execute && s != Read && s != Agent })
	return p
}

// Local is everybody on a machine where no credential is demanded.
func Local() Principal {
	return Principal{ID: "local", Name: "local", DisplayName: "Everybody on this machine", Kind: KindLocal, scopes: Scopes()}
}

// CommandLine is whoever may open the database itself and so needs no leave from us.
func CommandLine(name string) Principal {
	p := Local()
	p.ID, p.Name, p.DisplayName = "cli:"+name, name, name
	return p
}

// shared is whoever holds the key of the configuration (AGENTFIELD_API_KEY). Callers and agents have it in common, so that it never
// approves.
func shared() Principal {
	return Principal{ID: "api-key", Name: "AGENTFIELD_API_KEY", DisplayName: "The shared API key", Kind: KindAgent, scopes: []Scope{Execute, Read, Agent}}
}

// ForbiddenError says which right is missing. It is ErrForbidden.
type ForbiddenError struct{ Missing Scope }

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("this needs the right %q, which you do not have", string(e.Missing))
}

// Is makes it ErrForbidden.
func (e *ForbiddenError) Is(target error) bool { return target == ErrForbidden } //nolint:errorlint // this is what errors.Is calls

// Authorise checks that a principal may do what a scope is for.
func Authorise(p Principal, scope Scope) error {
	if !p.Can(scope) {
		return &ForbiddenError{Missing: scope}
	}
	return nil
}

// ApprovalSecret is whoever signs decisions with the shared secret of approvals: it may do that and nothing else.
func ApprovalSecret() Principal {
	return Principal{ID: "approval secret", Name: "approval secret", Kind: KindKey, scopes: []Scope{Approve}}
}
