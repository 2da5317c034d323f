package execution

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

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
		return 0, ErrBadToken
	}
	n, _, _ := strings.Cut(token, ".")
	attempt, err := strconv.Atoi(n)
	if err != nil || attempt < 1 || !hmac.Equal([]byte(token), []byte(s.token(executionID, attempt))) {
		return 0, ErrBadToken
	}
	return attempt, nil
}
