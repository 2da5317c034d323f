package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
)

// ErrBadBootstrap is the one answer to a first token that is wrong, used, or too old.
var ErrBadBootstrap = errors.New("this token does not open the server: it was used, has expired, or is mistyped. `agentfield user add --role admin` adds an admin too")

const (
	bootstrapSetting = "first admin token"
	bootstrapPrefix  = "first_"
	bootstrapLasts   = 24 * time.Hour
)

// Bootstrap makes the token by which the first admin is created, where credentials are demanded and nobody could sign in. It returns ""
// when there is no need, or when a token that was shown before still holds. Of the token only the hash is kept.
func (s *Service) Bootstrap(ctx context.Context) (string, error) {
	if s.Open(ctx) || s.Peopled(ctx) {
		return "", nil
	}
	token := bootstrapPrefix + random(32)
	fresh := false
	err := s.db.Tx(ctx, func(tx *database.Tx) error {
		now := s.db.NowMs()
		value := bootstrapValue(token, now)
		n, err := tx.Exec(ctx, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", bootstrapSetting, value)
		if err != nil {
			return err
		}
		if fresh = n == 1; fresh {
			return nil
		}
		var stored []byte
		if err := tx.QueryRow(ctx, forUpdate(tx, "SELECT value FROM settings WHERE name = $1"), []any{bootstrapSetting}, &stored); err != nil {
			return err
		}
		if now < bootstrapEnd(stored) {
			return nil
		}
		fresh = true
		_, err = tx.Exec(ctx, "UPDATE settings SET value = $1 WHERE name = $2", value, bootstrapSetting)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("store the first token: %w", err)
	}
	if !fresh {
		return "", nil
	}
	return token, nil
}

// bootstrapValue is what is stored: the hash, then when the token ends (ms, 8 bytes big-endian).
func bootstrapValue(token string, now int64) []byte {
	sum := sha256.Sum256([]byte(token))
	return binary.BigEndian.AppendUint64(sum[:], uint64(now+bootstrapLasts.Milliseconds()))
}

func bootstrapEnd(stored []byte) int64 {
	if len(stored) != sha256.Size+8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(stored[sha256.Size:]))
}

// FirstAdmin creates the first admin for whoever has the first token, and signs them in.
func (s *Service) FirstAdmin(ctx context.Context, o audit.Origin, token string, u NewUser, browser string) (string, Principal, error) {
	if err := s.limits.take(ctx, limit{subject: "first " + network(o.IP), most: perAccount}); err != nil {
		return "", Principal{}, err
	}
	token = strings.TrimSpace(token)
	if err := s.checkBootstrap(ctx, token); err != nil {
		return "", Principal{}, err
	}
	u.Role = Administrator
	row, err := s.prepare(ctx, u)
	if err != nil {
		return "", Principal{}, err
	}
	session := random(tokenBytes)
	o.Actor, o.ActorKind = personID(row.Name), string(KindUser)
	err = s.db.Tx(ctx, func(tx *database.Tx) error {
		var stored []byte
		err := tx.QueryRow(ctx, forUpdate(tx, "SELECT value FROM settings WHERE name = $1"), []any{bootstrapSetting}, &stored)
		if err := notFound(err, ErrBadBootstrap, "read the first token"); err != nil {
			return err
		}
		if !s.fits(stored, token) {
			return ErrBadBootstrap
		}
		if err := s.insertUser(ctx, tx, &row); err != nil {
			return err
		}
		if err := s.insertSession(ctx, tx, row.Name, session, o.IP, browser); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE users SET signed_in_at = $1 WHERE name = $2", row.CreatedAt, row.Name); err != nil {
			return fmt.Errorf("note the sign-in: %w", err)
		}
		after := described(&row)
		after["by"] = "first token"
		return s.append(ctx, tx, o, "user.created", "user", row.Name, nil, after)
	})
	if err != nil {
		return "", Principal{}, err
	}
	return session, person(&row), nil
}

// checkBootstrap looks before a password is hashed; the transaction looks again.
func (s *Service) checkBootstrap(ctx context.Context, token string) error {
	var stored []byte
	err := s.db.QueryRow(ctx, "SELECT value FROM settings WHERE name = $1", []any{bootstrapSetting}, &stored)
	if err := notFound(err, ErrBadBootstrap, "read the first token"); err != nil {
		return err
	}
	if !s.fits(stored, token) {
		return ErrBadBootstrap
	}
	return nil
}

func (s *Service) fits(stored []byte, token string) bool {
	if s.db.NowMs() >= bootstrapEnd(stored) {
		return false
	}
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], stored[:sha256.Size]) == 1
}
