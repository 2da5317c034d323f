package config

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestDefaultsAreValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	c, warnings := load(t, Sources{File: write(t, "")})
	if c.Listen != "127.0.0.1:8080" || c.SyncTimeout != 90*time.Second || c.Workers != 1024 || len(warnings) != 0 {
		t.Errorf("defaults are %+v with warnings %v", c, warnings)
	}
}

func TestTheStrongerSourceWins(t *testing.T) {
	file := write(t, "server:\n  workers: 10\n  queue_depth: 20\n  node_depth: 30\n  sync_timeout: 5s\n")
	c, _ := load(t, Sources{
		File:    file,
		Environ: []string{"AGENTFIELD_QUEUE_DEPTH=200", "AGENTFIELD_NODE_DEPTH=300"},
		Flags:   flags(t, "--node-depth", "3000"),
	})
	if c.Workers != 10 || c.QueueDepth != 200 || c.NodeDepth != 3000 || c.SyncTimeout != 5*time.Second || c.LeaseTTL != 10*time.Second {
		t.Errorf("workers %d, queue %d, node %d, sync %s, lease %s", c.Workers, c.QueueDepth, c.NodeDepth, c.SyncTimeout, c.LeaseTTL)
	}
}

func TestThePortAloneChangesOnlyThePort(t *testing.T) {
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		args    []string
		want    string
	}{
		{"general variable", "", []string{"PORT=5000"}, nil, "127.0.0.1:5000"},
		{"our variable before the general one", "", []string{"PORT=5000", "AGENTFIELD_PORT=6000"}, nil, "127.0.0.1:6000"},
		{"address and port together", "", []string{"AGENTFIELD_LISTEN=0.0.0.0:8080", "PORT=5000"}, nil, "0.0.0.0:5000"},
		{"host from the file", "server:\n  listen: 10.0.0.1:80\n", []string{"PORT=5000"}, nil, "10.0.0.1:5000"},
		{"flag over variable", "", []string{"PORT=5000"}, []string{"--port", "7000"}, "127.0.0.1:7000"},
		{"address flag over port variable", "", []string{"PORT=5000"}, []string{"--listen", "[::1]:9000"}, "[::1]:9000"},
		{"file of an existing installation", "agentfield:\n  port: 8181\n", nil, nil, "127.0.0.1:8181"},
		{"our part of the file before it", "agentfield:\n  port: 8181\nserver:\n  listen: 127.0.0.1:9\n", nil, nil, "127.0.0.1:9"},
		{"address that Kubernetes sets", "", []string{"AGENTFIELD_PORT=tcp://10.0.0.7:8080"}, nil, "127.0.0.1:8080"},
		{"any free port", "", nil, []string{"--port", "0"}, "127.0.0.1:0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _ := load(t, Sources{File: write(t, test.file), Environ: test.environ, Flags: flags(t, test.args...)})
			if c.Listen != test.want {
				t.Errorf("listen is %s, want %s", c.Listen, test.want)
			}
		})
	}
}

func TestExistingNamesAreAliasesAndThePrimaryNameWins(t *testing.T) {
	c, warnings := load(t, Sources{File: write(t, ""), Environ: []string{
		"AGENTFIELD_EXEC_ASYNC_WORKERS=7", "AGENTFIELD_EXEC_ASYNC_QUEUE_CAPACITY=8", "AGENTFIELD_QUEUE_NODE_DEPTH=9",
		"AGENTFIELD_MAX_CONCURRENT_PER_AGENT=3", "AGENTFIELD_HEALTH_CONSECUTIVE_FAILURES=4", "AGENTFIELD_API_AUTH_API_KEY=old",
		"AGENTFIELD_API_KEY=new", "AGENTFIELD_AUTHORIZATION_INTERNAL_TOKEN=inner", "DATABASE_URL=postgres://general/db",
		"AGENTFIELD_POSTGRES_URL=postgres://alias/db", "AGENTFIELD_HOME=/srv/af", "AGENTFIELD_API_CORS_ALLOWED_ORIGINS=https://a.example, https://b.example",
		"AGENTFIELD_WEBHOOK_ALLOWED_HOSTS=hooks.example,*.internal,10.0.0.0/8", "AGENTFIELD_SERVER=http://elsewhere:1",
	}})
	if c.Workers != 7 || c.QueueDepth != 8 || c.NodeDepth != 9 || c.NodeConcurrency != 3 || c.HealthFailures != 4 {
		t.Errorf("aliases of numbers are not read: %+v", c)
	}
	if c.APIKey != "new" || c.InternalToken != "inner" || c.DatabaseURL != "postgres://general/db" || c.DataDir != "/srv/af" {
		t.Errorf("key %q, token %q, database %q, data dir %q", c.APIKey, c.InternalToken, c.DatabaseURL, c.DataDir)
	}
	if !slices.Equal(c.CORSOrigins, []string{"https://a.example", "https://b.example"}) || len(c.WebhookAllowedHosts) != 3 {
		t.Errorf("lists are %v and %v", c.CORSOrigins, c.WebhookAllowedHosts)
	}
	if len(warnings) != 0 {
		t.Errorf("unexpected warnings: %v", warnings)
	}
}

func TestPostgresMayBeDescribedInParts(t *testing.T) {
	c, _ := load(t, Sources{File: write(t, ""), Environ: []string{
		"AGENTFIELD_STORAGE_MODE=postgres", "AGENTFIELD_STORAGE_POSTGRES_HOST=db", "AGENTFIELD_STORAGE_POSTGRES_PORT=5433",
		"AGENTFIELD_STORAGE_POSTGRES_DATABASE=af", "AGENTFIELD_STORAGE_POSTGRES_USER=me", "AGENTFIELD_STORAGE_POSTGRES_PASSWORD=p@ss/word",
		"AGENTFIELD_STORAGE_POSTGRES_SSLMODE=disable",
	}})
	if want := "postgres://me:p%40ss%2Fword@db:5433/af?sslmode=disable"; c.DatabaseURL != want {
		t.Errorf("database_url is %s, want %s", c.DatabaseURL, want)
	}
}

func TestStorageModeLocalOverridesADatabaseOfTheEnvironment(t *testing.T) {
	c, _ := load(t, Sources{File: write(t, ""), Environ: []string{"DATABASE_URL=postgres://db/af"}, Flags: flags(t, "--storage-mode", "local")})
	if c.DatabaseURL != "" {
		t.Errorf("database_url is %s, want none", c.DatabaseURL)
	}
}

func TestSecretsComeFromFiles(t *testing.T) {
	secret := write(t, "s3cret-of-the-mount\n")
	inFile := write(t, "server:\n  internal_token_file: "+secret+"\n")
	c, _ := load(t, Sources{File: inFile, Environ: []string{"AGENTFIELD_API_KEY_FILE=" + secret, "DATABASE_URL_FILE=" + write(t, "postgres://db/af")}})
	if c.APIKey != "s3cret-of-the-mount" || c.InternalToken != "s3cret-of-the-mount" || c.DatabaseURL != "postgres://db/af" {
		t.Errorf("key %q, token %q, database %q", c.APIKey, c.InternalToken, c.DatabaseURL)
	}
}

func TestKeysOfExistingFilesAreReadAndTheRestIsNamedInAWarning(t *testing.T) {
	file := write(t, `
name: my-agent
agentfield:
  mode: local
  execution_queue:
    webhook_timeout: 7s
    worker_count: 4
api:
  auth:
    api_key: from-the-file
storage:
  mode: postgres
  postgres:
    url: postgres://db/af
server:
  body_limit: 2MiB
  webhook_timeout: 8s
`)
	c, warnings := load(t, Sources{File: file})
	if c.APIKey != "from-the-file" || c.DatabaseURL != "postgres://db/af" || c.WebhookTimeout != 8*time.Second || c.BodyLimit != 2<<20 {
		t.Errorf("read %v", c)
	}
	if len(warnings) != 1 {
		t.Fatalf("want one warning, got %v", warnings)
	}
	for _, key := range []string{"name", "agentfield.mode", "agentfield.execution_queue.worker_count"} {
		if !strings.Contains(warnings[0], key) {
			t.Errorf("the warning %q does not name %s", warnings[0], key)
		}
	}
	if strings.Contains(warnings[0], "api_key") {
		t.Errorf("the warning %q names a key that was read", warnings[0])
	}
}

func TestWhatHasNoEffectIsSaid(t *testing.T) {
	_, warnings := load(t, Sources{
		File:    write(t, ""),
		Environ: []string{"AGENTFIELD_LISTN=:1", "AGENTFIELD_PORT_8080_TCP=tcp://10.0.0.7:8080", "HOME=/root"},
		Flags:   flags(t, "--vc-execution"),
	})
	if len(warnings) != 2 || !strings.Contains(warnings[0], "AGENTFIELD_LISTN") || !strings.Contains(warnings[1], "--vc-execution") {
		t.Errorf("warnings are %v", warnings)
	}
}

func TestMistakesAreRefusedWithAnAdvice(t *testing.T) {
	secret := write(t, "x")
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		args    []string
		want    string
	}{
		{"unknown key", "server:\n  lsten: 127.0.0.1:1\n", nil, nil, "lsten"},
		{"unknown nested key", "server:\n  webhook: {timeout: 3s}\n", nil, nil, "webhook"},
		{"not a mapping", "server: yes\n", nil, nil, "must hold settings"},
		{"broken YAML", "server: [\n", nil, nil, "read the configuration file"},
		{"duration without unit", "server:\n  sync_timeout: 90\n", nil, nil, "90s"},
		{"duration without unit in a variable", "", []string{"AGENTFIELD_LEASE_TTL=10"}, nil, "AGENTFIELD_LEASE_TTL"},
		{"not a number", "", []string{"AGENTFIELD_WORKERS=many"}, nil, "AGENTFIELD_WORKERS"},
		{"not a size", "", []string{"AGENTFIELD_BODY_LIMIT=huge"}, nil, "10MiB"},
		{"port", "", []string{"PORT=http"}, nil, "0 to 65535"},
		{"address without port", "", nil, []string{"--listen", "127.0.0.1"}, "127.0.0.1:8080"},
		{"address as URL", "", nil, []string{"--listen", "http://127.0.0.1:80"}, "address and a port"},
		{"public URL", "", nil, []string{"--public-url", "agents.example"}, "public_url"},
		{"other database", "", nil, []string{"--database-url", "mysql://db"}, "postgres://"},
		{"mode without database", "", []string{"AGENTFIELD_STORAGE_MODE=postgres"}, nil, "AGENTFIELD_DATABASE_URL"},
		{"unknown mode", "", nil, []string{"--storage-mode", "cloud"}, "local or postgres"},
		{"contradicting mode", "", nil, []string{"--storage-mode", "local", "--postgres-url", "postgres://db"}, "contradict"},
		{"zero workers", "", nil, []string{"--workers", "0"}, "workers is 0"},
		{"sync limit above the largest", "", nil, []string{"--sync-timeout", "48h"}, "sync_timeout"},
		{"log level", "", nil, []string{"--log-level", "loud"}, "debug, info, warn, error"},
		{"short passphrase", "", []string{"AGENTFIELD_SECRET_KEY=short"}, nil, "openssl rand"},
		{"any origin", "", nil, []string{"--cors-origins", "*"}, "one by one"},
		{"webhook host with scheme", "", nil, []string{"--webhook-allowed-hosts", "http://x"}, "without scheme"},
		{"unknown notification", "", nil, []string{"--notify-events", "approval.requested,approval.lost"}, "approval.lost"},
		{"unknown form", "", nil, []string{"--notify-format", "smoke"}, "json, slack"},
		{"notification without secret", "", []string{"AGENTFIELD_NOTIFY_URL=https://example.com"}, nil, "notify_secret is empty"},
		{"notification to nowhere", "", []string{"AGENTFIELD_NOTIFY_URL=example", "AGENTFIELD_NOTIFY_SECRET=s"}, nil, "notify_url is not"},
		{"collector of traces", "", nil, []string{"--otlp-endpoint", "collector:4318"}, "otlp_endpoint is not"},
		{"headers of traces", "", []string{"OTEL_EXPORTER_OTLP_HEADERS=authorization"}, nil, "otlp_headers is not"},
		{"unknown end", "", nil, []string{"--approval-on-reject", "forget"}, "resume, cancel"},
		{"secret twice", "", []string{"AGENTFIELD_API_KEY=a", "AGENTFIELD_API_KEY_FILE=" + secret}, nil, "keep one"},
		{"secret twice in the file", "server:\n  api_key: a\n  api_key_file: " + secret + "\n", nil, nil, "keep one"},
		{"missing secret file", "", []string{"AGENTFIELD_API_KEY_FILE=/does/not/exist"}, nil, "AGENTFIELD_API_KEY_FILE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := Load(Sources{File: write(t, test.file), Environ: test.environ, Flags: flags(t, test.args...)})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want it to contain %q", err, test.want)
			}
		})
	}
}

func TestANamedFileHasToExistAndTheDefaultOneNot(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, from := range []Sources{
		{File: "none.yaml"},
		{Environ: []string{"AGENTFIELD_CONFIG_FILE=none.yaml"}},
		{Flags: flags(t, "--config", "none.yaml")},
	} {
		if _, _, err := Load(from); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Load(%+v) says %v, want that the file does not exist", from, err)
		}
	}
	load(t, Sources{})
	if err := os.WriteFile(DefaultFile, []byte("server:\n  workers: 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, _ := load(t, Sources{}); c.Workers != 5 {
		t.Errorf("workers is %d: the file in the working directory is not read", c.Workers)
	}
}

func TestAllMistakesAreReportedTogether(t *testing.T) {
	c := Default()
	c.Workers, c.LogLevel, c.Listen = 0, "loud", "nowhere"
	err := c.Validate()
	if !errors.Is(err, ErrInvalid) || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("error is %v, want three sentences", err)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	c := Default()
	c.APIKey, c.SecretKey, c.InternalToken = "canary-1", "canary-2-canary-2", "canary-3"
	c.ApprovalWebhookSecret, c.NotifyURL, c.NotifySecret = "canary-6", "https://hooks.example.com/canary-7", "canary-8"
	c.OTLPHeaders = "authorization=canary-9"
	c.DatabaseURL = "postgres://me:canary-4@db/af?sslpassword=canary-5&sslmode=disable"
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("start", "config", c)
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{c.String(), string(text), log.String()} {
		if strings.Contains(shown, "canary") {
			t.Errorf("a secret is shown: %s", shown)
		}
		if !strings.Contains(shown, "me:xxxxx@db/af") || !strings.Contains(shown, hidden) {
			t.Errorf("what is set cannot be recognised: %s", shown)
		}
	}
	if c.APIKey != "canary-1" {
		t.Error("Redacted changed the configuration itself")
	}
}

func TestAWrongSecretIsNotRepeatedInTheError(t *testing.T) {
	_, _, err := Load(Sources{File: write(t, "server:\n  api_key: [canary]\n")})
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("error is %v, want one without the value", err)
	}
}

func TestThePrintedConfigurationCanBeReadBack(t *testing.T) {
	c := Default()
	c.BodyLimit, c.SyncTimeout, c.CORSOrigins = 3<<20+1, 75*time.Second, []string{"https://a.example"}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, _ := load(t, Sources{File: write(t, string(text))})
	if again.String() != c.String() {
		t.Errorf("printed\n%s\nread back\n%s", c, again)
	}
}

func TestSecretsHaveNoFlag(t *testing.T) {
	fs := flags(t)
	for _, name := range []string{"api-key", "secret-key", "internal-token", "approval-webhook-secret", "notify-url", "notify-secret"} {
		if fs.Lookup(name) != nil {
			t.Errorf("--%s would show the secret to everybody on the machine", name)
		}
	}
}

func TestLoopback(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:8080": true, "[::1]:80": true, "localhost:0": true, "127.9.9.9:1": true,
		"0.0.0.0:8080": false, ":8080": false, "[::]:80": false, "10.0.0.1:80": false, "localhost.example:80": false, "broken": false,
	} {
		c := Default()
		c.Listen = listen
		if c.Loopback() != want || c.AcceptsUnsignedAgents() != want {
			t.Errorf("%s: loopback %t, unsigned agents %t, want %t", listen, c.Loopback(), c.AcceptsUnsignedAgents(), want)
		}
		c.UnsignedAgents = "on"
		if !c.AcceptsUnsignedAgents() {
			t.Errorf("%s: unsigned agents are refused although switched on", listen)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "17": 17, "17B": 17, "1KiB": 1024, "10 MiB": 10 << 20, "2GiB": 2 << 30} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", text, got, err, want)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%d is written as %s and read back as %d, %v", got, got, again, err)
		}
	}
	for _, text := range []string{"", "-1", "1.5MiB", "MiB", "10 MB", "9999999999GiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}

func load(t *testing.T, from Sources) (Config, []string) {
	t.Helper()
	c, warnings, err := Load(from)
	if err != nil {
		t.Fatal(err)
	}
	return c, warnings
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("agentfield", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agentfield.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHeadersOfTracesAreReadAsTheVariableOfOpenTelemetry(t *testing.T) {
	c, _, err := Load(Sources{Environ: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abc=, x-team=a"}})
	if err != nil || c.OTLPEndpoint != "http://collector:4318" {
		t.Fatalf("%+v, %v", c.OTLPEndpoint, err)
	}
	h, err := c.TraceHeaders()
	if err != nil || h.Get("Authorization") != "Bearer abc=" || h.Get("X-Team") != "a" || len(h) != 2 {
		t.Errorf("%v, %v", h, err)
	}
}
