// Package access says who acts and what they may do. Its invariant: every route names a scope, and nobody passes who does not hold it.
package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
)

// Scope is one right. A route demands exactly one.
type Scope string

// The scopes of requirements.md 4, rank 1. The zero value is no scope at all: a route with it is a mistake in wiring.
const (
	Public  Scope = "public"  // nobody needs to be known
	Execute Scope = "execute" // start and cancel executions
	Read    Scope = "read"    // see what happens
	Agent   Scope = "agent"   // register, report, note
)

// Scopes lists those that a credential may hold.
var Scopes = []Scope{Execute, Read, Agent}

// What a caller is told.
var (
	ErrUnauthorized = errors.New("this server demands a credential: send it as 'X-API-Key: …' or 'Authorization: Bearer …'")
	ErrForbidden    = errors.New("this credential does not hold the right that the request needs")
)

// Principal is who acts.
type Principal struct {
	ID     string // scopes idempotency keys and appears in the history
	scopes []Scope
}

// Can reports whether the principal holds a scope.
func (p Principal) Can(scope Scope) bool { return scope == Public || slices.Contains(p.scopes, scope) }

// Gate recognises principals.
type Gate struct {
	open bool
	keys [][32]byte
}

// NewGate returns a gate that lets everybody in as "local" when open, and otherwise knows the holders of the given keys. Keys are kept
// as hashes only.
func NewGate(open bool, keys ...string) *Gate {
	g := &Gate{open: open}
	for _, key := range keys {
		if key != "" {
			g.keys = append(g.keys, sha256.Sum256([]byte(key)))
		}
	}
	return g
}

// Open reports whether no credential is demanded.
func (g *Gate) Open() bool { return g.open && len(g.keys) == 0 }

// Recognise finds out who holds a key. ErrUnauthorized when nobody does.
func (g *Gate) Recognise(key string) (Principal, error) {
	if g.Open() {
		return Principal{ID: "local", scopes: Scopes}, nil
	}
	if key == "" {
		return Principal{}, ErrUnauthorized
	}
	sum := sha256.Sum256([]byte(key))
	for _, known := range g.keys {
		if subtle.ConstantTimeCompare(sum[:], known[:]) == 1 {
			return Principal{ID: "api-key", scopes: Scopes}, nil
		}
	}
	return Principal{}, ErrUnauthorized
}

// Authorise checks that a principal may do what a route is for.
func Authorise(p Principal, scope Scope) error {
	if !p.Can(scope) {
		return ErrForbidden
	}
	return nil
}

// NewGateOfHash returns a gate for the holder of the one key with this SHA-256.
func NewGateOfHash(hash [32]byte) *Gate { return &Gate{keys: [][32]byte{hash}} }
