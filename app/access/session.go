package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

var (
	// ErrWrongPassword is the one answer to every attempt that fails: it does not tell which names exist.
	ErrWrongPassword = errors.New("the name and the password do not belong together, or the account is disabled")
	// ErrNoSession says that a browser is not signed in, or not any more.
	ErrNoSession = errors.New("nobody is signed in: the session has ended or never was")
)

// seenEvery is how often the use of a session or a key is written down, in ms.
const seenEvery = 60_000

// tokenBytes is what a session's id has of randomness.
const tokenBytes = 32

// Attempt is somebody who wants to sign in.
type Attempt struct {
	Name, Password string
	Browser        string // what the browser calls itself
	Previous       string // the id of a session that the browser already has; it ends, and is never used again
}

// SignIn checks a password and begins a session. It returns the session's id, which only the browser keeps. ErrWrongPassword for whatever
// is wrong, a *ThrottledError after too many attempts, the same for names that exist and names that do not.
func (s *Service) SignIn(ctx context.Context, o audit.Origin, a Attempt) (string, Principal, error) {
	name := FoldName(a.Name)
	account, address := accountLimit(name, o.IP), addressLimit(o.IP)
	if err := s.limits.take(ctx, account, address); err != nil {
		return "", Principal{}, err
	}
	u, err := s.User(ctx, name)
	if err != nil && !errors.Is(err, ErrNoUser) {
		return "", Principal{}, err
	}
	good, stale, err := s.hasher.verify(ctx, u.PasswordHash, a.Password)
	if err != nil {
		return "", Principal{}, err
	}
	if !good || u.Disabled {
		return "", Principal{}, s.refuseSignIn(ctx, o, u)
	}
	fresh := u.PasswordHash
	if stale {
		if fresh, err = s.hasher.hash(ctx, a.Password); err != nil {
			return "", Principal{}, err
		}
	}
	token := random(tokenBytes)
	err = s.db.Tx(ctx, func(tx *database.Tx) error {
		if err := s.limits.giveBack(ctx, tx, account, address); err != nil {
			return err
		}
		return s.begin(ctx, tx, o, u, fresh, token, a)
	})
	if err != nil {
		return "", Principal{}, err
	}
	return token, person(&u), nil
}

// refuseSignIn records a failed attempt. The log names only accounts that exist: people type passwords into the wrong field.
func (s *Service) refuseSignIn(ctx context.Context, o audit.Origin, u models.User) error {
	o.Actor, o.ActorKind = "nobody", ""
	why := map[string]any{"why": "unknown name"}
	if u.Name != "" {
		why["why"] = "wrong password"
	}
	if u.Disabled {
		why["why"] = "disabled"
	}
	if err := s.db.Tx(ctx, func(tx *database.Tx) error {
		return s.append(ctx, tx, o, "user.sign_in_failed", "user", u.Name, nil, why)
	}); err != nil {
		return err
	}
	return ErrWrongPassword
}

// begin writes a new session, provided that the account is still what was checked.
func (s *Service) begin(ctx context.Context, tx *database.Tx, o audit.Origin, u models.User, fresh, token string, a Attempt) error {
	now, err := heldUser(ctx, tx, u.Name)
	if err != nil {
		return err
	}
	if now.Disabled || now.PasswordHash != u.PasswordHash {
		return ErrWrongPassword
	}
	at := s.db.NowMs()
	if _, err := tx.Exec(ctx, "UPDATE users SET password_hash = $1, signed_in_at = $2 WHERE name = $3", fresh, at, u.Name); err != nil {
		return fmt.Errorf("note the sign-in: %w", err)
	}
	if _, err := tx.Exec(ctx, "DELETE FROM sessions WHERE hash = $1 OR expires_at <= $2 OR seen_at <= $3",
		sessionHash(a.Previous), at, at-s.idle.Milliseconds()); err != nil {
		return fmt.Errorf("sweep ended sessions: %w", err)
	}
	if err := s.insertSession(ctx, tx, u.Name, token, o.IP, a.Browser); err != nil {
		return err
	}
	o.Actor, o.ActorKind = personID(u.Name), string(KindUser)
	return s.append(ctx, tx, o, "user.signed_in", "user", u.Name, nil, nil)
}

func (s *Service) insertSession(ctx context.Context, tx *database.Tx, name, token, ip, browser string) error {
	at := s.db.NowMs()
	browser = strings.ToValidUTF8(strings.ReplaceAll(browser[:min(len(browser), 200)], "\x00", ""), "")
	if _, err := tx.Exec(ctx, `INSERT INTO sessions (hash, user_name, created_at, seen_at, expires_at, ip, browser)
		VALUES ($1, $2, $3, $3, $4, $5, $6)`, sessionHash(token), name, at, at+s.lifetime.Milliseconds(), ip, browser); err != nil {
		return fmt.Errorf("begin the session: %w", err)
	}
	return nil
}

func sessionHash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

const readSession = `SELECT s.seen_at, s.expires_at, u.name, u.display_name, u.role, u.member_of, u.disabled
	FROM sessions s JOIN users u ON u.name = s.user_name WHERE s.hash = $1`

// Session finds out who has the session of an id; ErrNoSession when nobody has. What the person may do is read anew each time.
func (s *Service) Session(ctx context.Context, token string) (Principal, error) {
	if len(token) != secretText.EncodedLen(tokenBytes) {
		return Principal{}, ErrNoSession
	}
	hash := sessionHash(token)
	var u models.User
	var seenAt, expiresAt int64
	var groups string
	err := s.db.QueryRow(ctx, readSession, []any{hash}, &seenAt, &expiresAt, &u.Name, &u.DisplayName, &u.Role, &groups, &u.Disabled)
	if err := notFound(err, ErrNoSession, "find the session"); err != nil {
		return Principal{}, err
	}
	now := s.db.NowMs()
	if u.Disabled || now >= expiresAt || now >= seenAt+s.idle.Milliseconds() {
		return Principal{}, ErrNoSession
	}
	if now >= seenAt+seenEvery {
		s.touch(ctx, "UPDATE sessions SET seen_at = $1 WHERE hash = $2 AND seen_at < $1", now, hash)
	}
	u.Groups = decodeGroups(groups)
	return person(&u), nil
}

// touch notes a use. It is no reason to refuse a request when that cannot be written.
func (s *Service) touch(ctx context.Context, statement string, args ...any) {
	if err := s.db.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, statement, args...)
		return err
	}); err != nil {
		s.log.Warn("cannot note the use of a session or a key", "error", err)
	}
}

// Sessions lists where somebody is signed in, the newest first.
func (s *Service) Sessions(ctx context.Context, name string) ([]models.Session, error) {
	now := s.db.NowMs()
	rows, err := s.db.Query(ctx, `SELECT hash, user_name, created_at, seen_at, expires_at, ip, browser FROM sessions
		WHERE user_name = $1 AND expires_at > $2 AND seen_at > $3 ORDER BY created_at DESC`, name, now, now-s.idle.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("list the sessions: %w", err)
	}
	defer rows.Close()
	var list []models.Session
	for rows.Next() {
		var one models.Session
		if err := rows.Scan(&one.Hash, &one.UserName, &one.CreatedAt, &one.SeenAt, &one.ExpiresAt, &one.IP, &one.Browser); err != nil {
			return nil, fmt.Errorf("list the sessions: %w", err)
		}
		list = append(list, one)
	}
	return list, rows.Err()
}

// Current reports whether a session is that of an id.
func Current(session models.Session, token string) bool {
	return slices.Equal(session.Hash, sessionHash(token))
}

// SignOut ends one session. One that has ended already is no error.
func (s *Service) SignOut(ctx context.Context, o audit.Origin, token string) error {
	return s.db.Tx(ctx, func(tx *database.Tx) error {
		var name string
		err := tx.QueryRow(ctx, "SELECT user_name FROM sessions WHERE hash = $1", []any{sessionHash(token)}, &name)
		if errors.Is(err, database.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find the session: %w", err)
		}
		if _, err := tx.Exec(ctx, "DELETE FROM sessions WHERE hash = $1", sessionHash(token)); err != nil {
			return fmt.Errorf("end the session: %w", err)
		}
		o.Actor, o.ActorKind = personID(name), string(KindUser)
		return s.append(ctx, tx, o, "user.signed_out", "user", name, nil, nil)
	})
}

// SignOutEverywhere ends all sessions of somebody.
func (s *Service) SignOutEverywhere(ctx context.Context, o audit.Origin, name string) error {
	return s.db.Tx(ctx, func(tx *database.Tx) error {
		n, err := tx.Exec(ctx, "DELETE FROM sessions WHERE user_name = $1", name)
		if err != nil {
			return fmt.Errorf("end the sessions: %w", err)
		}
		return s.append(ctx, tx, o, "user.signed_out_everywhere", "user", name, nil, map[string]any{"sessions": n})
	})
}

// ChangePassword lets somebody choose another password. All sessions end; the browser that asked gets a new one, whose id is returned.
func (s *Service) ChangePassword(ctx context.Context, o audit.Origin, name, old, password, browser string) (string, error) {
	account, address := accountLimit(name, o.IP), addressLimit(o.IP)
	if err := s.limits.take(ctx, account, address); err != nil {
		return "", err
	}
	u, err := s.User(ctx, name)
	if err != nil {
		return "", err
	}
	good, _, err := s.hasher.verify(ctx, u.PasswordHash, old)
	if err != nil {
		return "", err
	}
	if !good {
		return "", s.refuseSignIn(ctx, o, u)
	}
	if err := checkPassword(name, password); err != nil {
		return "", err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return "", err
	}
	token := random(tokenBytes)
	err = s.db.Tx(ctx, func(tx *database.Tx) error {
		now, err := heldUser(ctx, tx, name)
		if err != nil {
			return err
		}
		if now.Disabled || now.PasswordHash != u.PasswordHash {
			return ErrWrongPassword
		}
		now.PasswordHash = hash
		if err := s.update(ctx, tx, &now, true); err != nil {
			return err
		}
		if err := s.limits.giveBack(ctx, tx, account, address); err != nil {
			return err
		}
		if err := s.insertSession(ctx, tx, name, token, o.IP, browser); err != nil {
			return err
		}
		return s.append(ctx, tx, o, "user.password_changed", "user", name, nil, nil)
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

func personID(name string) string { return "user:" + name }

// person is somebody as they act by a session.
func person(u *models.User) Principal {
	return Principal{
		ID: personID(u.Name), Name: u.Name, DisplayName: u.DisplayName, Kind: KindUser, Role: Role(u.Role), Groups: u.Groups, scopes: Role(u.Role).Scopes(),
	}
}
