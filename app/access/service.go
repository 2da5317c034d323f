package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
)

// Options are what the service needs to know.
type Options struct {
	DB       *database.DB
	Log      *slog.Logger
	APIKey   string // the shared key of the configuration; empty: none
	Loopback bool   // only this machine reaches the server

	// Durations and costs; zero values take the defaults.
	SessionIdle     time.Duration // a session that was not used for so long has ended: 8 h
	SessionLifetime time.Duration // a session ends after so long, used or not: 24 h
	KeyCache        time.Duration // a key that another replica revoked works no longer than so: 2 s
	Hashing         Hashing       // of passwords
}

// Service knows people, sessions and keys.
type Service struct {
	db       *database.DB
	log      *slog.Logger
	loopback bool
	shared   *[sha256.Size]byte
	idle     time.Duration
	lifetime time.Duration
	hasher   hasher
	keys     keyCache
	limits   limits

	peopled   atomic.Bool  // somebody can sign in; that never ends, because names are never deleted
	peopledAt atomic.Int64 // when that was last looked up and not so, ms
}

// New returns the service.
func New(o Options) *Service {
	s := &Service{
		db: o.DB, log: o.Log, loopback: o.Loopback, idle: o.SessionIdle, lifetime: o.SessionLifetime,
		hasher: newHasher(o.Hashing), keys: keyCache{keep: o.KeyCache}, limits: limits{db: o.DB},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.idle == 0 {
		s.idle = 8 * time.Hour
	}
	if s.lifetime == 0 {
		s.lifetime = 24 * time.Hour
	}
	if s.keys.keep == 0 {
		s.keys.keep = 2 * time.Second
	}
	if o.APIKey != "" {
		sum := sha256.Sum256([]byte(o.APIKey))
		s.shared = &sum
	}
	return s
}

// peopledFor is how long "nobody can sign in" is believed, in ms: another replica may have made somebody known.
const peopledFor = 2000

// Open reports whether no credential is demanded: on a loopback address, without a configured key, as long as no user exists. Where a
// request seems to come from plays no part.
func (s *Service) Open(ctx context.Context) bool {
	return s.loopback && s.shared == nil && !s.Peopled(ctx)
}

// Peopled reports whether there is somebody who can sign in. When the database does not say, it says yes: then credentials are demanded.
func (s *Service) Peopled(ctx context.Context) bool {
	if s.peopled.Load() {
		return true
	}
	now := s.db.NowMs()
	if at := s.peopledAt.Load(); at != 0 && now >= at && now < at+peopledFor {
		return false
	}
	var n int
	if err := s.db.QueryRow(ctx, "SELECT count(*) FROM (SELECT 1 FROM users LIMIT 1) AS someone", nil, &n); err != nil {
		s.log.Error("cannot find out whether there are users; credentials are demanded", "error", err)
		return true
	}
	if n == 0 {
		s.peopledAt.Store(now)
		return false
	}
	s.peopled.Store(true)
	return true
}

// append writes the record of an act in its transaction.
func (s *Service) append(ctx context.Context, tx *database.Tx, o audit.Origin, action, kind, object string, before, after any) error {
	return audit.Append(ctx, tx, audit.Entry{
		Origin: o, At: s.db.NowMs(), Action: action, ObjectKind: kind, Object: object, Before: before, After: after,
	})
}

// forUpdate holds the rows that a query reads until the commit; SQLite has one writer and needs nothing.
func forUpdate(tx *database.Tx, query string) string {
	if tx.Postgres() {
		return query + " FOR UPDATE"
	}
	return query
}

var secretText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// random is a text of n random bytes, lower case letters and digits, so that a double click selects all of it.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it would end the program
	return secretText.EncodeToString(b)
}

// network is the part of an address that one party surely holds: of IPv6 a /64.
func network(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	if addr = addr.Unmap(); addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}

func encodeGroups(groups []string) string {
	if groups == nil {
		groups = []string{}
	}
	encoded, err := json.Marshal(groups)
	if err != nil {
		return "[]" // a list of texts always encodes
	}
	return string(encoded)
}

func decodeGroups(text string) []string {
	var groups []string
	if err := json.Unmarshal([]byte(text), &groups); err != nil {
		return nil
	}
	return groups
}

// keyCache remembers keys for a moment, so that not every call of a program asks the database.
type keyCache struct {
	keep       time.Duration
	mu         sync.Mutex
	known      map[string]*knownKey
	generation uint64 // counts forgetting: what was read before must not be remembered after
}

func (c *keyCache) get(id string, now int64) (*knownKey, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.known[id]; k != nil && now >= k.readAt && now < k.readAt+c.keep.Milliseconds() {
		return k, c.generation
	}
	return nil, c.generation
}

const maxKnownKeys = 4096

func (c *keyCache) put(k *knownKey, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	if c.known == nil || len(c.known) >= maxKnownKeys {
		c.known = map[string]*knownKey{}
	}
	c.known[k.id] = k
}

// forget makes every key be read anew.
func (c *keyCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = nil
	c.generation++
}

// notFound turns "no rows" into what it means.
func notFound(err, meaning error, what string) error {
	if errors.Is(err, database.ErrNoRows) {
		return meaning
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// oneLine checks a text that people chose: bounded, printable, without edges of space.
func oneLine(text string, most int) bool {
	return len(text) <= most && text == strings.TrimSpace(text) && strings.ToValidUTF8(text, "") == text &&
		!strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\u202e' || r == '\u200b' })
}
