package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Hashing are the costs of argon2id. Zero values take those that OWASP recommends: 19 MiB, two passes, one thread.
type Hashing struct {
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
}

// Bounds of a password. The upper one keeps hashing cheap to start.
const (
	MinPassword = 12  // characters
	maxPassword = 256 // characters
)

var (
	// ErrWeakPassword says what a password must be.
	ErrWeakPassword = errors.New("a password has 12 to 256 characters and is neither the name nor one character over and over")
	// ErrCrowded says that too many passwords are being checked at once.
	ErrCrowded = errors.New("too many people are signing in at this moment: try again in a few seconds")
)

const (
	saltBytes = 16
	hashBytes = 32
	// hashers is how many hashings run at once: each takes 19 MiB and a core.
	hashers = 2
	// hashPatience is how long one waits for its turn.
	hashPatience = 10 * time.Second
)

// checkPassword refuses what is guessed first.
func checkPassword(name, password string) error {
	n := utf8.RuneCountInString(password)
	first, _ := utf8.DecodeRuneInString(password)
	if n < MinPassword || n > maxPassword || !utf8.ValidString(password) || strings.EqualFold(name, password) ||
		strings.Count(password, string(first)) == n {
		return ErrWeakPassword
	}
	return nil
}

// hasher hashes passwords, a few at once.
type hasher struct {
	cost  Hashing
	slots chan struct{}
}

func newHasher(cost Hashing) hasher {
	if cost.MemoryKiB == 0 {
		cost.MemoryKiB = 19 << 10
	}
	if cost.Passes == 0 {
		cost.Passes = 2
	}
	if cost.Threads == 0 {
		cost.Threads = 1
	}
	return hasher{cost: cost, slots: make(chan struct{}, hashers)}
}

// turn waits for a slot and returns what gives it back.
func (h hasher) turn(ctx context.Context) (func(), error) {
	patience := time.NewTimer(hashPatience)
	defer patience.Stop()
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-patience.C:
		return nil, ErrCrowded
	}
}

// hash returns the password in PHC form: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func (h hasher) hash(ctx context.Context, password string) (string, error) {
	release, err := h.turn(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails: it would end the program
	return phc{cost: h.cost, salt: salt, hash: h.cost.key(password, salt, hashBytes)}.String(), nil
}

// verify reports whether a password is the one that was hashed, and whether it should be hashed anew because the costs have changed.
// Without a hash it takes the same time and says no.
func (h hasher) verify(ctx context.Context, stored, password string) (good, stale bool, err error) {
	release, err := h.turn(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	if utf8.RuneCountInString(password) > maxPassword {
		password = "" // nobody's; and not worth the time of hashing a megabyte
	}
	known, err := parsePHC(stored)
	if err != nil {
		_ = h.cost.key(password, make([]byte, saltBytes), hashBytes)
		return false, false, nil //nolint:nilerr // a user without a usable password is one whose password is wrong
	}
	computed := known.cost.key(password, known.salt, uint32(len(known.hash)))
	return subtle.ConstantTimeCompare(computed, known.hash) == 1, known.cost != h.cost, nil
}

func (c Hashing) key(password string, salt []byte, size uint32) []byte {
	return argon2.IDKey([]byte(password), salt, c.Passes, c.MemoryKiB, c.Threads, size)
}

// phc is a hash with all that it takes to compute it again.
type phc struct {
	cost       Hashing
	salt, hash []byte
}

func (p phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.cost.MemoryKiB, p.cost.Passes, p.cost.Threads,
		b64.EncodeToString(p.salt), b64.EncodeToString(p.hash))
}

var errPHC = errors.New("not an argon2id hash")

// parsePHC reads a stored hash. Costs beyond reason are refused: a row must not be able to take all memory.
func parsePHC(text string) (phc, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return phc{}, errPHC
	}
	var p phc
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.cost.MemoryKiB, &p.cost.Passes, &p.cost.Threads); err != nil {
		return phc{}, errPHC
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return phc{}, errPHC
	}
	if p.hash, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil {
		return phc{}, errPHC
	}
	if p.cost.MemoryKiB > 1<<20 || p.cost.Passes < 1 || p.cost.Passes > 100 || p.cost.Threads < 1 || len(p.salt) < 8 || len(p.hash) < 16 || len(p.hash) > 128 {
		return phc{}, errPHC
	}
	return p, nil
}
