package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a delivery that only this file writes.
const (
	headerSignature = "X-AgentField-Signature"
	headerNext      = "X-AgentField-Signature-Next"
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerStandard  = "Webhook-Signature"
)

const secretPrefix = "whsec_"

// Sign adds the identification of a delivery and, if there is a secret, both signatures of exactly these bytes: the documented one
// over the body, and that of Standard Webhooks 1.0 over id, time and body, which also lets a receiver detect a replay. The id stays the
// same over all attempts; the time is that of the attempt.
func Sign(header http.Header, id string, at time.Time, body, secret []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	header.Set(headerID, id)
	header.Set(headerTimestamp, timestamp)
	if len(secret) == 0 {
		return
	}
	header.Set(headerSignature, documented(body, secret))
	header.Set(headerStandard, standard(id, at, body, secret))
}

// signBoth is Sign while one secret replaces another, for receivers that know either. The signature of Standard Webhooks is a list with both.
// The documented header has room for one: it stays with the old secret, so that no receiver fails before it was told the new one, and the
// next one is beside it.
func signBoth(header http.Header, id string, at time.Time, body, secret, old []byte) {
	Sign(header, id, at, body, secret)
	if len(secret) == 0 || len(old) == 0 {
		return
	}
	header.Set(headerNext, header.Get(headerSignature))
	header.Set(headerSignature, documented(body, old))
	header.Set(headerStandard, header.Get(headerStandard)+" "+standard(id, at, body, old))
}

func documented(body, secret []byte) string {
	return "sha256=" + hex.EncodeToString(digest(secret, body))
}

func standard(id string, at time.Time, body, secret []byte) string {
	return "v1," + base64.StdEncoding.EncodeToString(digest(standardKey(secret), []byte(SignedText(id, at)), body))
}

// standardKey is the key of the Standard Webhooks signature: what follows whsec_ in base64, else the bytes of the secret. Secrets
// that only look like the first form (whsec_ and no base64) are taken as they are.
func standardKey(secret []byte) []byte {
	encoded, ok := strings.CutPrefix(string(secret), secretPrefix)
	if !ok {
		return secret
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
		if key, err := encoding.DecodeString(encoded); err == nil && len(key) > 0 {
			return key
		}
	}
	return secret
}

func digest(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)
}
