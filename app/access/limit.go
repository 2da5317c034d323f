package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// How often one may try in a minute.
const (
	perAccount = 5  // a name from one address
	perAddress = 30 // all names from one address
	perKeys    = 30 // unknown keys from one address
)

const (
	limitWindow = time.Minute
	firstLock   = time.Minute // doubled with each further one
	longestLock = 15 * time.Minute
	forgetLocks = time.Hour // of quiet
	keepLimits  = 24 * time.Hour
)

// ThrottledError says that somebody has tried too often.
type ThrottledError struct{ RetryAfter time.Duration }

func (e *ThrottledError) Error() string {
	return "too many attempts: wait " + e.RetryAfter.Round(time.Second).String() + " and try again"
}

// limits counts attempts in the database, so that replicas share the counts. An attempt is counted before it is judged: a hundred at once
// are a hundred.
type limits struct {
	db     *database.DB
	mu     sync.Mutex
	locked map[string]int64 // subject → end of a lock, ms: who is locked costs no more writing
}

// limit is a subject and how often it may try in a minute.
type limit struct {
	subject string
	most    int
}

func accountLimit(name, ip string) limit {
	sum := sha256.Sum256([]byte(name + "\n" + network(ip)))
	return limit{subject: "account " + hex.EncodeToString(sum[:16]), most: perAccount}
}

func addressLimit(ip string) limit { return limit{subject: "address " + network(ip), most: perAddress} }

func keyLimit(ip string) limit { return limit{subject: "keys " + network(ip), most: perKeys} }

// take counts an attempt of every subject; a *ThrottledError when one of them has tried too often.
func (l *limits) take(ctx context.Context, subjects ...limit) error {
	for _, subject := range subjects {
		if err := l.known(subject.subject); err != nil {
			return err
		}
	}
	var refused error
	err := l.db.Tx(ctx, func(tx *database.Tx) error {
		refused = nil
		now := l.db.NowMs()
		if _, err := tx.Exec(ctx, "DELETE FROM sign_in_limits WHERE since < $1 AND locked_until < $1", now-keepLimits.Milliseconds()); err != nil {
			return err
		}
		for _, subject := range subjects {
			err := l.count(ctx, tx, subject, now)
			if _, throttled := errors.AsType[*ThrottledError](err); throttled {
				refused = err // and the counts stay
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count an attempt: %w", err)
	}
	return refused
}

func (l *limits) known(subject string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, now := l.locked[subject], l.db.NowMs()
	if until > now {
		return throttled(until - now)
	}
	return nil
}

func (l *limits) remember(subject string, until int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locked == nil || len(l.locked) > 4096 {
		l.locked = map[string]int64{}
	}
	l.locked[subject] = until
}

func throttled(ms int64) error {
	return &ThrottledError{RetryAfter: max(time.Duration(ms)*time.Millisecond, time.Second)}
}

const readLimit = `SELECT attempts, since, locks, locked_until FROM sign_in_limits WHERE subject = $1`

func (l *limits) count(ctx context.Context, tx *database.Tx, subject limit, now int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO sign_in_limits (subject, attempts, since, locks, locked_until) VALUES ($1, 0, $2, 0, 0)
		ON CONFLICT (subject) DO NOTHING`, subject.subject, now)
	if err != nil {
		return err
	}
	var row models.SignInLimit
	if err := tx.QueryRow(ctx, forUpdate(tx, readLimit), []any{subject.subject}, &row.Attempts, &row.Since, &row.Locks, &row.LockedUntil); err != nil {
		return err
	}
	if row.LockedUntil > now {
		l.remember(subject.subject, row.LockedUntil)
		return throttled(row.LockedUntil - now)
	}
	lock := next(&row, subject.most, now)
	if _, err := tx.Exec(ctx, "UPDATE sign_in_limits SET attempts = $1, since = $2, locks = $3, locked_until = $4 WHERE subject = $5",
		row.Attempts, row.Since, row.Locks, row.LockedUntil, subject.subject); err != nil {
		return err
	}
	if lock == 0 {
		return nil
	}
	l.remember(subject.subject, row.LockedUntil)
	return throttled(lock)
}

// next counts one attempt and returns how long (ms) the subject is locked by it.
func next(row *models.SignInLimit, most int, now int64) int64 {
	if now >= row.Since+limitWindow.Milliseconds() || now < row.Since {
		row.Attempts, row.Since = 0, now
	}
	if row.Locks > 0 && now >= row.LockedUntil+forgetLocks.Milliseconds() {
		row.Locks = 0
	}
	row.Attempts++
	if row.Attempts <= most {
		return 0
	}
	lock := min(firstLock<<min(row.Locks, 10), longestLock).Milliseconds()
	row.Attempts, row.Since, row.Locks, row.LockedUntil = 0, now+lock, row.Locks+1, now+lock
	return lock
}

// giveBack takes a good attempt out of the counts: the account starts anew, the address has one less.
func (l *limits) giveBack(ctx context.Context, tx *database.Tx, account, address limit) error {
	if _, err := tx.Exec(ctx, "DELETE FROM sign_in_limits WHERE subject = $1", account.subject); err != nil {
		return fmt.Errorf("clear the attempts: %w", err)
	}
	if _, err := tx.Exec(ctx, "UPDATE sign_in_limits SET attempts = attempts - 1 WHERE subject = $1 AND attempts > 0", address.subject); err != nil {
		return fmt.Errorf("clear the attempts: %w", err)
	}
	return nil
}
