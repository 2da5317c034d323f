package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// Token proves that its holder registered the node. It is the same for all instances and stays valid over restarts.
func (s *Service) Token(nodeID string) string {
	mac := hmac.New(sha256.New, s.o.TokenKey)
	mac.Write([]byte("node token v1\x00" + nodeID))
	return "node_" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// VerifyToken reports whether token is the one of the node, in constant time.
func (s *Service) VerifyToken(nodeID, token string) bool {
	return hmac.Equal([]byte(s.Token(nodeID)), []byte(token))
}
