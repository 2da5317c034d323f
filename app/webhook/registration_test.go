package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/secret"
)

// preparer is a service that can only prepare.
func preparer(t *testing.T) *Service {
	t.Helper()
	box, err := secret.NewBox(make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return &Service{Parts: Parts{Box: box}, policy: ForWebhooks(AllowList{}, 0)}
}

func TestUnusableWebhooksAreRefused(t *testing.T) {
	many := map[string]string{}
	for i := range maxHeaders + 1 {
		many[fmt.Sprint("X-", i)] = "v"
	}
	const url = "https://your-app.com/hook"
	one := func(name, value string) Spec { return Spec{URL: url, Headers: map[string]string{name: value}} }
	for name, c := range map[string]struct {
		spec Spec
		says string
	}{
		"scheme":               {Spec{URL: "ftp://x"}, "webhook.url: the URL must begin with http:// or https://"},
		"no URL":               {Spec{}, "webhook.url"},
		"private address":      {Spec{URL: "http://10.0.0.1/"}, "10.0.0.1 may not be reached"},
		"long secret":          {Spec{URL: url, Secret: strings.Repeat("s", maxSecret+1)}, "longer than 4096"},
		"many headers":         {Spec{URL: url, Headers: many}, "more than 20"},
		"long name":            {one(strings.Repeat("X", maxHeaderLen+1), "v"), "at most 512"},
		"long value":           {one("X-A", strings.Repeat("v", maxHeaderLen+1)), "at most 512"},
		"empty name":           {one("", "v"), "not a valid header name"},
		"space in name":        {one("X A", "v"), "not a valid header name"},
		"line break in name":   {one("X\r\nA", "v"), "not a valid header name"},
		"line break in value":  {one("X-A", "v\r\nHost: evil"), "cannot carry"},
		"NUL in value":         {one("X-A", "v\x00"), "cannot carry"},
		"Host":                 {one("host", "evil"), "cannot be replaced"},
		"Content-Length":       {one("Content-Length", "1"), "cannot be replaced"},
		"Transfer-Encoding":    {one("transfer-encoding", "chunked"), "cannot be replaced"},
		"Connection":           {one("Connection", "close"), "cannot be replaced"},
		"Proxy-Authorization":  {one("Proxy-Authorization", "x"), "cannot be replaced"},
		"our signature":        {one("X-AgentField-Signature", "sha256=00"), "cannot be replaced"},
		"the standard headers": {one("webhook-id", "x"), "cannot be replaced"},
		"another content type": {one("Content-Type", "text/plain"), "always application/json"},
		"one name twice":       {Spec{URL: url, Headers: map[string]string{"X-A": "1", "x-a": "2"}}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := preparer(t).Prepare("exec_1", c.spec)
			var invalid *InvalidError
			if !errors.Is(err, ErrInvalid) || !errors.As(err, &invalid) || !strings.Contains(invalid.Details, c.says) {
				t.Errorf("got %v, want it to say %q", err, c.says)
			}
		})
	}
}

func TestRegistrationSealsSecretAndHeaders(t *testing.T) {
	s := preparer(t)
	headers := map[string]string{"X-Custom-ID": "request-123", "authorization": "Bearer t0ken", "Content-Type": "application/json; charset=utf-8"}
	row, err := s.Prepare("exec_1", Spec{URL: "https://your-app.com/hook", Secret: "your-webhook-secret-key", Headers: headers})
	if err != nil {
		t.Fatal(err)
	}
	stored, _ := json.Marshal(row)
	for _, open := range []string{"your-webhook-secret-key", "t0ken", "request-123"} {
		if strings.Contains(string(stored)+string(row.Secret)+*row.Headers, open) {
			t.Errorf("the row shows %q", open)
		}
	}
	opened, err := s.openHeaders(ofExecution("exec_1"), row.Headers)
	if err != nil || len(opened) != 2 || opened["X-Custom-Id"] != "request-123" || opened["Authorization"] != "Bearer t0ken" {
		t.Errorf("headers %v, %v", opened, err)
	}
	if _, err := s.openHeaders(ofExecution("exec_2"), row.Headers); !errors.Is(err, secret.ErrDamaged) {
		t.Errorf("headers of another row: %v", err)
	}
	if key, err := s.Box.Open(ofExecution("exec_1").secret(), row.Secret); err != nil || string(key) != "your-webhook-secret-key" {
		t.Errorf("secret %q, %v", key, err)
	}
	plain, err := s.Prepare("exec_2", Spec{URL: "https://your-app.com/hook"})
	if err != nil || plain.Secret != nil || plain.Headers != nil {
		t.Errorf("without secret and headers: %+v, %v", plain, err)
	}
}
