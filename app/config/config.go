// Package config reads the settings of the server. Its one invariant: what Load returns has been validated, and every value came
// from the last of defaults, file, environment and flags that names it.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"golang.org/x/net/http/httpguts"
)

// Config holds the settings. The tags say the rest: the key in the file, from which the names of the environment variable
// (AGENTFIELD_ + key) and of the flag follow, further names under which existing installations know it, and the one description
// that flags and docs/configuration.md show.
type Config struct {
	Listen    string `koanf:"listen" help:"address and port to accept requests on; without credentials only a loopback address does"`
	PublicURL string `koanf:"public_url" help:"address under which people and agents reach the server, for links; empty: derived from the request"`
	DataDir   string `koanf:"data_dir" env:"AGENTFIELD_HOME" help:"directory of the SQLite database; not used with database_url"`

	DatabaseURL      string `koanf:"database_url" secret:"url" env:"DATABASE_URL,AGENTFIELD_POSTGRES_URL,AGENTFIELD_STORAGE_POSTGRES_URL" help:"PostgreSQL to use instead of SQLite, as in postgres://user:password@host:5432/name"`
	DatabaseMaxConns int    `koanf:"database_max_conns" help:"connections to PostgreSQL that this replica may hold"`

	APIKey         string   `koanf:"api_key" secret:"yes" env:"AGENTFIELD_API_AUTH_API_KEY" help:"key that callers send as X-API-Key or bearer token"`
	SecretKey      string   `koanf:"secret_key" secret:"yes" help:"seals secrets in the database: 32 bytes in base64, or a passphrase of 16 characters or more"`
	InternalToken  string   `koanf:"internal_token" secret:"yes" env:"AGENTFIELD_AUTHORIZATION_INTERNAL_TOKEN" help:"token that the server sends to agents, so that they can tell its calls from others"`
	UnsignedAgents string   `koanf:"unsigned_agents" help:"whether agents without a token of their own may report: on, off, or auto, which is on only on a loopback address"`
	CORSOrigins    []string `koanf:"cors_origins" env:"AGENTFIELD_API_CORS_ALLOWED_ORIGINS" help:"origins of other web pages that may call the API"`

	LogLevel      string        `koanf:"log_level" help:"least level to log: debug, info, warn or error"`
	LogFormat     string        `koanf:"log_format" help:"json, text, or auto, which is text on a terminal"`
	ShutdownGrace time.Duration `koanf:"shutdown_grace" help:"time that running work has to finish after SIGTERM"`

	BodyLimit   Size          `koanf:"body_limit" help:"largest request body"`
	ResultLimit Size          `koanf:"result_limit" help:"largest answer taken from an agent"`
	SyncTimeout time.Duration `koanf:"sync_timeout" help:"limit of a synchronous execution that names none"`
	MaxTimeout  time.Duration `koanf:"max_timeout" help:"largest limit that a request may name"`

	Workers         int           `koanf:"workers" env:"AGENTFIELD_EXEC_ASYNC_WORKERS" help:"calls to agents that this replica holds open at once"`
	QueueDepth      int           `koanf:"queue_depth" env:"AGENTFIELD_EXEC_ASYNC_QUEUE_CAPACITY" help:"executions that may wait in all; above it the answer is 503"`
	NodeDepth       int           `koanf:"node_depth" env:"AGENTFIELD_QUEUE_NODE_DEPTH" help:"executions that may wait for one node; above it the answer is 429"`
	NodeConcurrency int           `koanf:"node_concurrency" env:"AGENTFIELD_MAX_CONCURRENT_PER_AGENT" help:"executions that one node works on at once; 0: as many as it takes"`
	LeaseTTL        time.Duration `koanf:"lease_ttl" help:"silence after which a replica counts as dead and its work moves on"`

	WebhookAllowedHosts []string      `koanf:"webhook_allowed_hosts" help:"hosts that webhooks may reach although their address is private: names, *.suffix, addresses or CIDRs"`
	WebhookTimeout      time.Duration `koanf:"webhook_timeout" help:"limit of one delivery attempt"`
	WebhookMaxAttempts  int           `koanf:"webhook_max_attempts" help:"delivery attempts, the first included"`
	WebhookBackoff      time.Duration `koanf:"webhook_backoff" help:"wait before the second attempt; it doubles with each further one"`
	WebhookMaxBackoff   time.Duration `koanf:"webhook_max_backoff" help:"longest wait between two attempts"`
	WebhookPauseAfter   time.Duration `koanf:"webhook_pause_after" help:"how long a host may answer nothing before it is paused, after ten failures in a row"`
	WebhookRecoveryRate int           `koanf:"webhook_recovery_rate" help:"deliveries in a second to a host that was paused, until what has waited is sent"`

	ApprovalWebhookSecret string        `koanf:"approval_webhook_secret" secret:"yes" help:"secret of signed decisions at /api/v1/webhooks/approval-response; without one they are refused"`
	ApprovalExpiryHours   int           `koanf:"approval_default_expiry_hours" help:"hours after which a request for a decision expires when it does not say"`
	ApprovalOnReject      string        `koanf:"approval_on_reject" help:"what a rejection does where the request does not say: resume the agent, or cancel the execution"`
	ApprovalOnExpire      string        `koanf:"approval_on_expire" help:"what an expiry does where the request does not say: resume the agent, or cancel the execution"`
	ApprovalGrace         time.Duration `koanf:"approval_delivery_grace" help:"time an agent has to take a decision before the execution is ended"`
	ApprovalHold          time.Duration `koanf:"approval_hold" help:"time in which a decision made in the dashboard can be withdrawn; 0: it takes effect at once"`

	NotifyURL    string   `koanf:"notify_url" secret:"yes" help:"address that is told of requests for decisions, so that reviewers learn of them; empty: nobody is"`
	NotifySecret string   `koanf:"notify_secret" secret:"yes" help:"secret that signs these notifications, as those of executions are signed"`
	NotifyFormat string   `koanf:"notify_format" help:"form of the notifications: json, or slack for an incoming webhook of Slack and what imitates it"`
	NotifyEvents []string `koanf:"notify_events" help:"what is notified: approval.requested, approval.decided, approval.expired"`

	OTLPEndpoint string `koanf:"otlp_endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" help:"base address of a collector of OpenTelemetry that takes OTLP over HTTP, told one span for each execution at /v1/traces; empty: nothing is told"`
	OTLPHeaders  string `koanf:"otlp_headers" secret:"yes" env:"OTEL_EXPORTER_OTLP_HEADERS" help:"headers of these requests, as name=value and separated by commas"`

	ExportLimit int `koanf:"export_limit" help:"rows of one export of a list; a longer one is cut, and its last line says so"`

	ServerlessAllowedHosts []string `koanf:"serverless_allowed_hosts" env:"AGENTFIELD_REGISTRATION_SERVERLESS_DISCOVERY_ALLOWED_HOSTS" help:"hosts besides this machine at which serverless agents may be registered: names, *.suffix, addresses or CIDRs"`

	HealthCheckInterval time.Duration `koanf:"health_check_interval" help:"time between two probes of an agent"`
	HealthCheckTimeout  time.Duration `koanf:"health_check_timeout" help:"limit of one probe"`
	HealthFailures      int           `koanf:"health_failures" env:"AGENTFIELD_HEALTH_CONSECUTIVE_FAILURES" help:"probes that fail in a row before an instance counts as inactive"`
}

// Default is the configuration of a server that was told nothing.
func Default() Config {
	return Config{
		Listen:              "127.0.0.1:8080",
		DataDir:             "./agentfield-data",
		DatabaseMaxConns:    16,
		UnsignedAgents:      "auto",
		CORSOrigins:         []string{},
		LogLevel:            "info",
		LogFormat:           "auto",
		ShutdownGrace:       30 * time.Second,
		BodyLimit:           10 << 20,
		ResultLimit:         16 << 20,
		SyncTimeout:         90 * time.Second,
		MaxTimeout:          24 * time.Hour,
		Workers:             1024,
		QueueDepth:          100_000,
		NodeDepth:           10_000,
		LeaseTTL:            10 * time.Second,
		WebhookAllowedHosts: []string{},
		WebhookTimeout:      10 * time.Second,
		WebhookMaxAttempts:  5,
		WebhookBackoff:      5 * time.Second,
		WebhookMaxBackoff:   5 * time.Minute,
		WebhookPauseAfter:   30 * time.Second,
		WebhookRecoveryRate: 20,
		ApprovalExpiryHours: 72,
		ApprovalOnReject:    "resume",
		ApprovalOnExpire:    "resume",
		ApprovalGrace:       10 * time.Minute,
		ApprovalHold:        5 * time.Second,
		NotifyFormat:        "json",
		NotifyEvents:        []string{"approval.requested", "approval.decided", "approval.expired"},
		ExportLimit:         100_000,
		HealthCheckInterval: 10 * time.Second,
		HealthCheckTimeout:  3 * time.Second,
		HealthFailures:      3,

		ServerlessAllowedHosts: []string{},
	}
}

// Loopback reports whether only this machine can reach the server. Everywhere else credentials are demanded.
func (c Config) Loopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// AcceptsUnsignedAgents reports whether agents without a token of their own may register and report.
func (c Config) AcceptsUnsignedAgents() bool {
	return c.UnsignedAgents == "on" || c.UnsignedAgents == "auto" && c.Loopback()
}

var errTraceHeaders = errors.New("otlp_headers is not a list of name=value, separated by commas")

// TraceHeaders are OTLPHeaders, read as the specification of OpenTelemetry writes them: values may be percent-encoded.
func (c Config) TraceHeaders() (http.Header, error) {
	headers := http.Header{}
	for pair := range strings.SplitSeq(c.OTLPHeaders, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, text, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(text))
		name = strings.TrimSpace(name)
		if !ok || err != nil || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, errTraceHeaders // what it holds is a secret
		}
		headers.Set(name, value)
	}
	return headers, nil
}

// Level is LogLevel for log/slog.
func (c Config) Level() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return slog.LevelInfo
	}
	return level
}

const hidden = "(hidden)"

// Redacted is the configuration as people may see it: secrets that are set read "(hidden)".
func (c Config) Redacted() Config {
	for _, s := range []*string{&c.APIKey, &c.SecretKey, &c.InternalToken, &c.ApprovalWebhookSecret, &c.NotifyURL, &c.NotifySecret, &c.OTLPHeaders} {
		if *s != "" {
			*s = hidden
		}
	}
	c.DatabaseURL = redactURL(c.DatabaseURL)
	return c
}

// redactURL keeps what helps to recognise a database and drops the rest: passwords may also stand in the query.
func redactURL(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return hidden
	}
	query := u.Query()
	for name := range query {
		if name == "password" || name == "sslpassword" || name == "passfile" {
			query.Set(name, "xxxxx")
		}
	}
	u.RawQuery = query.Encode()
	return u.Redacted()
}

// String is the redacted configuration, so that printing one by mistake gives nothing away.
func (c Config) String() string {
	text, err := c.YAML()
	if err != nil {
		return hidden
	}
	return string(text)
}

// LogValue is String for log/slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// YAML is the redacted configuration in the form of the file.
func (c Config) YAML() ([]byte, error) {
	server := koanf.New(".")
	if err := server.Load(structs.Provider(c.Redacted(), "koanf"), nil); err != nil {
		return nil, fmt.Errorf("list the settings: %w", err)
	}
	file := koanf.New(".")
	if err := file.MergeAt(server, "server"); err != nil {
		return nil, fmt.Errorf("list the settings: %w", err)
	}
	text, err := file.Marshal(yaml.Parser())
	if err != nil {
		return nil, fmt.Errorf("write the settings as YAML: %w", err)
	}
	return text, nil
}
