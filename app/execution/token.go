package execution

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// errUnsigned tells whoever runs the server what to do about agents of published SDKs, which know no tokens.
var errUnsigned = fmt.Errorf("%w: to accept agents whose SDK sends none, set AGENTFIELD_UNSIGNED_AGENTS=on", ErrBadToken)

// token proves that its bearer was given this attempt of this execution. It is computed, not stored: "<attempt>.<32 hex digits>".
func (s *Service) token(executionID string, attempt int) string {
	n := strconv.Itoa(attempt)
	mac := hmac.New(sha256.New, s.TokenKey)
	mac.Write([]byte(executionID + "\n" + n))
	return n + "." + hex.EncodeToString(mac.Sum(nil)[:16])
}

// attemptOf reads a token. Attempt 0 means that none was sent and none is needed.
func (s *Service) attemptOf(executionID, token string) (int, error) {
	if token == "" {
		if s.AllowUnsigned {
			return 0, nil
		}
		return 0, errUnsigned
	}
	n, _, _ := strings.Cut(token, ".")
	attempt, err := strconv.Atoi(n)
	if err != nil || attempt < 1 || !hmac.Equal([]byte(token), []byte(s.token(executionID, attempt))) {
		return 0, ErrBadToken
	}
	return attempt, nil
}

// Vouched reports whether a token may speak for one of these executions: of what an agent does by itself, and of what nobody has heard of
// yet, the agent has no token but that of the execution above.
func (s *Service) Vouched(token string, ids ...string) error {
	err := error(ErrBadToken)
	if len(ids) == 0 || token == "" {
		_, err = s.attemptOf("", token)
	}
	for _, id := range ids {
		if _, err = s.attemptOf(id, token); err == nil {
			return nil
		}
	}
	return err
}
