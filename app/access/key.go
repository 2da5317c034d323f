package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// What is wrong with a key that somebody asks for.
var (
	ErrBadKeyName = errors.New("a key needs a name: one line of at most 100 bytes that says what it is for")
	ErrBadScopes  = errors.New("a key needs one or more of the scopes read, execute, approve, operate, admin and agent")
	ErrAgentScope = errors.New("agents never approve: the scope agent cannot be combined with approve, operate or admin")
	ErrBadExpiry  = errors.New("a key expires after 1 minute to 10 years, or never")
	ErrNoKey      = errors.New("there is no key of this id")
)

const (
	keyPrefix = "af_"
	keyIDSize = 10 // bytes: 16 characters
	shortest  = time.Minute
	longest   = 10 * 366 * 24 * time.Hour
)

// NewKey is a key to make.
type NewKey struct {
	Name      string
	Scopes    []Scope
	Personal  bool          // it acts for whoever makes it, with no more than their role; otherwise for a service
	ExpiresIn time.Duration // 0: never
}

func (k NewKey) checked() (NewKey, error) {
	k.Name = strings.TrimSpace(k.Name)
	k.Scopes = slices.Compact(slices.Sorted(slices.Values(k.Scopes)))
	unknown := slices.ContainsFunc(k.Scopes, func(s Scope) bool { return !slices.Contains(Scopes(), s) })
	agent := slices.Contains(k.Scopes, Agent)
	beyond := slices.ContainsFunc(k.Scopes, func(s Scope) bool { return s == Approve || s == Operate || s == Admin })
	switch {
	case k.Name == "" || !oneLine(k.Name, 100):
		return k, ErrBadKeyName
	case len(k.Scopes) == 0 || unknown:
		return k, ErrBadScopes
	case agent && beyond:
		return k, ErrAgentScope
	case k.ExpiresIn != 0 && (k.ExpiresIn < shortest || k.ExpiresIn > longest):
		return k, ErrBadExpiry
	}
	return k, nil
}

// allows reports whether somebody may make the key. People make keys for themselves that can do no more than they can; services get
// theirs from an admin. A key makes no keys, unless it is an admin's, so that who steals one cannot keep the access.
func (k NewKey) allows(by Principal) error {
	if by.IsAgent() {
		return &ForbiddenError{Missing: Admin}
	}
	if !k.Personal || by.Kind == KindKey {
		if err := Authorise(by, Admin); err != nil {
			return err
		}
	}
	if !k.Personal {
		return nil
	}
	for _, scope := range k.Scopes {
		if !by.Person() || !slices.Contains(by.Role.Scopes(), scope) {
			return &ForbiddenError{Missing: scope}
		}
	}
	return nil
}

// CreateKey makes a key and returns it; it is never shown again.
func (s *Service) CreateKey(ctx context.Context, by Principal, o audit.Origin, k NewKey) (string, models.APIKey, error) {
	k, err := k.checked()
	if err == nil {
		err = k.allows(by)
	}
	if err != nil {
		return "", models.APIKey{}, err
	}
	id, secret := random(keyIDSize), random(32)
	sum := sha256.Sum256([]byte(secret))
	row := models.APIKey{ID: id, Name: k.Name, Hash: sum[:], Scopes: joined(k.Scopes), CreatedBy: by.ID, CreatedAt: s.db.NowMs()}
	if k.Personal {
		row.UserName = &by.Name
	}
	if k.ExpiresIn != 0 {
		at := row.CreatedAt + k.ExpiresIn.Milliseconds()
		row.ExpiresAt = &at
	}
	err = s.db.Tx(ctx, func(tx *database.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO api_keys (id, name, hash, scopes, user_name, created_by, created_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, row.ID, row.Name, row.Hash, row.Scopes, row.UserName, row.CreatedBy, row.CreatedAt, row.ExpiresAt); err != nil {
			return fmt.Errorf("store the key: %w", err)
		}
		return s.append(ctx, tx, o, "key.created", "key", row.ID, nil, map[string]any{
			"name": row.Name, "scopes": k.Scopes, "user": row.UserName, "expires_at": row.ExpiresAt,
		})
	})
	if err != nil {
		return "", models.APIKey{}, err
	}
	return keyPrefix + id + "_" + secret, row, nil
}

func joined(scopes []Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}

func split(words string) []Scope {
	var scopes []Scope
	for w := range strings.FieldsSeq(words) {
		scopes = append(scopes, Scope(w))
	}
	return scopes
}

const keyColumns = `SELECT id, name, hash, scopes, user_name, created_by, created_at, expires_at, last_used_at, revoked_at FROM api_keys`

func keyFields(k *models.APIKey) []any {
	return []any{&k.ID, &k.Name, &k.Hash, &k.Scopes, &k.UserName, &k.CreatedBy, &k.CreatedAt, &k.ExpiresAt, &k.LastUsedAt, &k.RevokedAt}
}

// Keys lists the keys that somebody may see, the newest first: an admin all of them, others their own.
func (s *Service) Keys(ctx context.Context, by Principal) ([]models.APIKey, error) {
	rows, err := s.db.Query(ctx, keyColumns+` ORDER BY created_at DESC, id`)
	if err != nil {
		return nil, fmt.Errorf("list the keys: %w", err)
	}
	defer rows.Close()
	keys := []models.APIKey{}
	for rows.Next() {
		var k models.APIKey
		if err := rows.Scan(keyFields(&k)...); err != nil {
			return nil, fmt.Errorf("list the keys: %w", err)
		}
		if manages(by, &k) {
			keys = append(keys, k)
		}
	}
	return keys, rows.Err()
}

func manages(by Principal, k *models.APIKey) bool {
	return by.Can(Admin) || by.Person() && k.UserName != nil && *k.UserName == by.Name
}

// RevokeKey ends a key for good; at once here, within KeyCache on other replicas. A key that was revoked before stays so.
func (s *Service) RevokeKey(ctx context.Context, by Principal, o audit.Origin, id string) (models.APIKey, error) {
	if !possibleKey(id) {
		return models.APIKey{}, ErrNoKey
	}
	var k models.APIKey
	err := s.db.Tx(ctx, func(tx *database.Tx) error {
		k = models.APIKey{}
		err := tx.QueryRow(ctx, forUpdate(tx, keyColumns+` WHERE id = $1`), []any{id}, keyFields(&k)...)
		if err := notFound(err, ErrNoKey, "find the key"); err != nil {
			return err
		}
		if !manages(by, &k) {
			return ErrNoKey
		}
		if k.RevokedAt != nil {
			return nil
		}
		now := s.db.NowMs()
		if _, err := tx.Exec(ctx, "UPDATE api_keys SET revoked_at = $1 WHERE id = $2", now, id); err != nil {
			return fmt.Errorf("revoke the key: %w", err)
		}
		k.RevokedAt = &now
		tx.AfterCommit(s.keys.forget)
		return s.append(ctx, tx, o, "key.revoked", "key", id, map[string]any{"name": k.Name, "scopes": split(k.Scopes), "user": k.UserName}, nil)
	})
	return k, err
}

// knownKey is a key as it was read a moment ago.
type knownKey struct {
	id        string
	hash      []byte
	principal Principal
	expiresAt int64 // 0: never
	ended     bool  // revoked, or of somebody who is disabled
	readAt    int64
	usedAt    atomic.Int64
}

// Authenticate finds out who sends a request with a key, or with none. ErrUnauthorized when nobody is known by it; a *ThrottledError when
// the address has sent too many that nobody is known by.
func (s *Service) Authenticate(ctx context.Context, key, ip string) (Principal, error) {
	if key == "" {
		if s.Open(ctx) {
			return Local(), nil
		}
		return Principal{}, ErrUnauthorized
	}
	if s.shared != nil {
		if sum := sha256.Sum256([]byte(key)); subtle.ConstantTimeCompare(sum[:], s.shared[:]) == 1 {
			return shared(), nil
		}
	}
	id, secret, found := strings.Cut(strings.TrimPrefix(key, keyPrefix), "_")
	if found && strings.HasPrefix(key, keyPrefix) && possibleKey(id) {
		p, err := s.keyHolder(ctx, id, secret)
		if err == nil || !errors.Is(err, ErrUnauthorized) {
			return p, err
		}
	} else if s.Open(ctx) {
		return Local(), nil // where nothing is demanded, a key of some other server does no harm
	}
	if err := s.limits.take(ctx, keyLimit(ip)); err != nil {
		return Principal{}, err
	}
	return Principal{}, ErrUnauthorized
}

// possibleKey spares the database ids that no key has.
func possibleKey(id string) bool {
	_, err := secretText.DecodeString(id)
	return err == nil && len(id) == secretText.EncodedLen(keyIDSize)
}

func (s *Service) keyHolder(ctx context.Context, id, secret string) (Principal, error) {
	k, err := s.key(ctx, id)
	if err != nil {
		return Principal{}, err
	}
	sum := sha256.Sum256([]byte(secret))
	now := s.db.NowMs()
	if subtle.ConstantTimeCompare(sum[:], k.hash) != 1 || k.ended || k.expiresAt != 0 && now >= k.expiresAt {
		return Principal{}, ErrUnauthorized
	}
	if used := k.usedAt.Load(); now >= used+seenEvery && k.usedAt.CompareAndSwap(used, now) {
		s.touch(ctx, "UPDATE api_keys SET last_used_at = $1 WHERE id = $2 AND (last_used_at IS NULL OR last_used_at < $1)", now, id)
	}
	return k.principal, nil
}

const readKey = `SELECT k.name, k.hash, k.scopes, k.expires_at, k.last_used_at, k.revoked_at, u.name, u.display_name, u.role, u.member_of, u.disabled
	FROM api_keys k LEFT JOIN users u ON u.name = k.user_name WHERE k.id = $1`

// key reads a key, or remembers it.
func (s *Service) key(ctx context.Context, id string) (*knownKey, error) {
	now := s.db.NowMs()
	k, generation := s.keys.get(id, now)
	if k != nil {
		return k, nil
	}
	k = &knownKey{id: id, readAt: now}
	var name, scopes string
	var expiresAt, usedAt, revokedAt *int64
	var user, displayName, role, groups *string
	var disabled *bool
	err := s.db.QueryRow(ctx, readKey, []any{id}, &name, &k.hash, &scopes, &expiresAt, &usedAt, &revokedAt, &user, &displayName, &role, &groups, &disabled)
	if err := notFound(err, ErrUnauthorized, "find the key"); err != nil {
		return nil, err
	}
	k.principal = Principal{ID: "key:" + id, Name: name, DisplayName: name, Kind: KindKey, KeyID: id, scopes: split(scopes)}
	if user != nil {
		k.principal = forPerson(k.principal, models.User{Name: *user, DisplayName: *displayName, Role: *role, Groups: decodeGroups(*groups)})
	}
	if slices.Contains(k.principal.scopes, Agent) {
		k.principal.Kind = KindAgent
	}
	k.ended = revokedAt != nil || disabled != nil && *disabled
	if expiresAt != nil {
		k.expiresAt = *expiresAt
	}
	if usedAt != nil {
		k.usedAt.Store(*usedAt)
	}
	s.keys.put(k, generation)
	return k, nil
}

// forPerson is a key that acts for somebody: with their name, and of its scopes those that their role still has.
func forPerson(key Principal, u models.User) Principal {
	p := person(&u)
	p.Kind, p.KeyID = KindKey, key.KeyID
	p.scopes = slices.DeleteFunc(key.scopes, func(scope Scope) bool { return !slices.Contains(Role(u.Role).Scopes(), scope) })
	return p
}
