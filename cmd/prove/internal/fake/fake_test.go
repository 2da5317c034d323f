package fake_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
)

func start(t *testing.T, controlPlane string, extra ...fake.Function) *fake.Agent {
	t.Helper()
	a, err := fake.NewAgent("", controlPlane, extra...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func post(t *testing.T, url, body string, header ...string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, string(answer), err
}

func TestAgentsBehaveAsTheyAreNamed(t *testing.T) {
	a := start(t, "http://127.0.0.1:1")
	for function, want := range map[string]struct {
		input  string
		status int
		body   string
	}{
		"greet":       {`{"name":"Alice"}`, 200, `"Hello, Alice!"`},
		"echo":        {`{"x":1}`, 200, `{"x":1}`},
		"value":       {`{"value":[1,null]}`, 200, `[1,null]`},
		"fail":        {`{"status":422,"message":"no"}`, 422, `{"error":"no"}`},
		"later":       {`{}`, 202, `processing`},
		"broken_json": {`{}`, 200, `{"half": `},
		"text":        {`{}`, 200, `plain words`},
		"redirect":    {`{}`, 302, ``},
		"unknown":     {`{}`, 404, `no such function`},
	} {
		status, body, err := post(t, a.URL+"/reasoners/"+function, want.input, "X-Execution-ID", "exec_"+function)
		if err != nil || status != want.status || !strings.Contains(body, want.body) {
			t.Errorf("%s: got %d %q %v, want %d %q", function, status, body, err, want.status, want.body)
		}
		if got := a.Arrivals("exec_" + function); len(got) != 1 || string(got[0].Body) != want.input {
			t.Errorf("%s: the call is not on record: %v", function, got)
		}
	}
	if _, _, err := post(t, a.URL+"/reasoners/slam", `{}`); err == nil {
		t.Error("slam must close the connection without an answer")
	}
	_, huge, err := post(t, a.URL+"/reasoners/huge", `{"megabytes":2}`)
	if err != nil || len(huge) < 2<<20 || !json.Valid([]byte(huge)) {
		t.Errorf("huge: %d bytes, %v", len(huge), err)
	}
}

func TestFlakyCountsByExecution(t *testing.T) {
	a := start(t, "http://127.0.0.1:1")
	var got []int
	for range 3 {
		status, _, _ := post(t, a.URL+"/reasoners/flaky", `{"failures":2}`, "X-Execution-ID", "exec_1")
		got = append(got, status)
	}
	other, _, _ := post(t, a.URL+"/reasoners/flaky", `{"failures":2}`, "X-Execution-ID", "exec_2")
	if got[0] != 503 || got[1] != 503 || got[2] != 200 || other != 503 {
		t.Errorf("got %v and %d", got, other)
	}
}

func TestAcceptReportsUntilItIsHeard(t *testing.T) {
	reports := make(chan string, 3)
	var heard atomic.Int32
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if reports <- r.URL.Path + " " + string(body); heard.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(plane.Close)
	a := start(t, plane.URL)
	if status, _, err := post(t, a.URL+"/reasoners/accept", `{"report":{"status":"done","result":7}}`, "X-Execution-ID", "exec_9"); status != 202 {
		t.Fatalf("got %d %v", status, err)
	}
	first, second := <-reports, <-reports
	if first != second {
		t.Errorf("an unheard report must be sent again, got %s and %s", first, second)
	}
	if want := `/api/v1/executions/exec_9/status {"result":7,"status":"done"}`; first != want {
		t.Errorf("got %s, want %s", first, want)
	}
}

func TestReceiverRecordsEachHookApart(t *testing.T) {
	r, err := fake.NewReceiver()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	flaky, good := r.Hook(500, 200), r.Hook()
	for _, want := range []int{500, 200, 200} {
		if status, _, err := post(t, flaky.URL, `{"status":"succeeded"}`, "Webhook-Id", "wh_1"); status != want || err != nil {
			t.Errorf("got %d %v, want %d", status, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	got := flaky.Wait(ctx, 3)
	if len(got) != 3 || got[0].Answer != 500 || got[0].Field("status") != "succeeded" || got[0].Header.Get("Webhook-Id") != "wh_1" {
		t.Errorf("got %v", got)
	}
	if len(good.Deliveries()) != 0 {
		t.Error("another hook's deliveries must not be counted here")
	}
}

func TestSignedIsTheDocumentedCheck(t *testing.T) {
	const signature = "sha256=aa9e2e3575f5d7098b6caccd790888c36d5fdb63342a73bada2d6a51747a8494" // openssl dgst -sha256 -hmac secret
	if !fake.Signed("secret", signature, []byte(`{"a":1}`)) {
		t.Error("the signature that openssl computes must fit")
	}
	for name, fits := range map[string]bool{
		"another body":   fake.Signed("secret", signature, []byte(`{"a":2}`)),
		"another secret": fake.Signed("Secret", signature, []byte(`{"a":1}`)),
		"no signature":   fake.Signed("secret", "", []byte(`{"a":1}`)),
	} {
		if fits {
			t.Errorf("%s must not fit", name)
		}
	}
}
