package approval

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

const signatureAge = 5 * time.Minute

// Signed reports whether a body was signed with the shared secret, in any of the forms that approval hubs use (wire.md 3.11):
// t=<unix>,v1=<hex> over "<t>.<body>", no older than five minutes; sha256=<hex> and bare hex over the body.
func Signed(secret, signature string, body []byte, now time.Time) bool {
	if after, ok := strings.CutPrefix(signature, "t="); ok {
		at, sum, _ := strings.Cut(after, ",v1=")
		seconds, err := strconv.ParseInt(at, 10, 64)
		if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > signatureAge {
			return false
		}
		return equal(secret, sum, []byte(at+"."), body)
	}
	return equal(secret, strings.TrimPrefix(signature, "sha256="), body)
}

func equal(secret, sum string, parts ...[]byte) bool {
	given, err := hex.DecodeString(strings.TrimSpace(sum))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	for _, part := range parts {
		mac.Write(part)
	}
	return hmac.Equal(given, mac.Sum(nil))
}
