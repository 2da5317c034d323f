package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSignaturesMatchFixedVectors pins both forms. The second is the published example of Standard Webhooks.
func TestSignaturesMatchFixedVectors(t *testing.T) {
	for _, c := range []struct{ name, secret, id, body, documented, standard string }{
		{
			"raw secret", "your-webhook-secret-key", "wh_1", `{"event":"execution.completed"}`,
			"sha256=c4a28318cc8f4d1e2a587d2f366e3737a220b6f1636e7ce7dbbb1bb8445b6430", "v1,vSqnuE7ILixEINDOl8vDKrrMX/X6+RkXx9gP/+V9jeM=",
		},
		{
			"whsec_ secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", `{"test": 2432232314}`,
			"sha256=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		},
		{
			"whsec_ without base64", "whsec_not base64!", "wh_1", `{}`,
			"sha256=349d4c642189f3b731c126751447bb7be64710435614e07a0dc26472ab8f27af", "v1,lyCmhJxhqH7rRkGHcm0PVTUZTvSMNUfoLLceDq21RPo=",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			Sign(h, c.id, time.Unix(1614265330, 0), []byte(c.body), []byte(c.secret))
			if got := h.Get("X-AgentField-Signature"); got != c.documented {
				t.Errorf("documented signature %s", got)
			}
			if got := h.Get("webhook-signature"); got != c.standard {
				t.Errorf("standard signature %s", got)
			}
			if h.Get("webhook-id") != c.id || h.Get("webhook-timestamp") != "1614265330" {
				t.Errorf("headers %v", h)
			}
		})
	}
}

func TestWithoutSecretThereIsNoSignature(t *testing.T) {
	h := http.Header{}
	Sign(h, "wh_1", time.Unix(1, 0), []byte("{}"), nil)
	if len(h) != 2 || h.Get("webhook-id") != "wh_1" || h.Get("webhook-timestamp") != "1" {
		t.Errorf("headers %v", h)
	}
}

// TestReceiversInOtherLanguagesAcceptUs runs the documented handler's check and that of Standard Webhooks in Python and JavaScript,
// where they are installed, on our output and on the same with one byte changed.
func TestReceiversInOtherLanguagesAcceptUs(t *testing.T) {
	const key = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	body := []byte(`{"event":"execution.completed","result":"äöü ✓"}`)
	h := http.Header{}
	Sign(h, "wh_2", time.Unix(1700000000, 0), body, []byte(secretPrefix+key))
	args := []string{h.Get("X-AgentField-Signature"), h.Get("webhook-signature"), h.Get("webhook-id"), h.Get("webhook-timestamp"), secretPrefix + key}
	for _, program := range [][]string{
		{"python3", "-c", `
import sys, hmac, hashlib, base64
own, std, id, at, secret = sys.argv[1:6]
body = sys.stdin.buffer.read()
a = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
key = base64.b64decode(secret[len("whsec_"):])
b = "v1," + base64.b64encode(hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()).decode()
print(hmac.compare_digest(a, own), hmac.compare_digest(b, std))`},
		{"node", "-e", `
const c = require("crypto"), [own, std, id, at, secret] = process.argv.slice(1), body = require("fs").readFileSync(0);
const mac = (key, ...parts) => parts.reduce((m, p) => m.update(p), c.createHmac("sha256", key));
const word = ok => ok ? "True" : "False";
console.log(word("sha256=" + mac(secret, body).digest("hex") === own),
  word("v1," + mac(Buffer.from(secret.slice(6), "base64"), id + "." + at + ".", body).digest("base64") === std));`},
	} {
		if _, err := exec.LookPath(program[0]); err != nil {
			t.Logf("%s is not installed", program[0])
			continue
		}
		for input, want := range map[string]string{string(body): "True True", strings.Replace(string(body), "r", "s", 1): "False False"} {
			cmd := exec.CommandContext(t.Context(), program[0], append(program[1:], args...)...)
			cmd.Stdin = strings.NewReader(input)
			out, err := cmd.CombinedOutput()
			if strings.TrimSpace(string(out)) != want {
				t.Errorf("%s: %s, %v; want %s", program[0], out, err, want)
			}
		}
	}
}

// verified is an implementation of both checks that shares nothing with sign.go.
func verified(h http.Header, body []byte, secret string) (documented, standard bool) {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	documented = hmac.Equal([]byte(h.Get("X-AgentField-Signature")), []byte("sha256="+hex.EncodeToString(mac.Sum(nil))))
	key := []byte(secret)
	if strings.HasPrefix(secret, "whsec_") {
		key, _ = base64.StdEncoding.DecodeString(secret[6:])
	}
	mac = hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + string(body)))
	standard = hmac.Equal([]byte(h.Get("webhook-signature")), []byte("v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))))
	return documented, standard
}
