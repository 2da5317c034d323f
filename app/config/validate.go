package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrInvalid is the root of everything Validate finds.
var ErrInvalid = errors.New("the configuration cannot be used")

// minSecretKey is the shortest secret_key, in bytes.
const minSecretKey = 16

// Validate names everything that is wrong, each in a sentence that says what to do.
func (c Config) Validate() error {
	found := slices.Concat(c.checkAddresses(), c.checkWords(), c.checkNumbers(), c.checkDurations(), c.checkSecrets(), c.checkHosts(), c.checkNotify(), c.checkTraces())
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("%w:\n  %s", ErrInvalid, strings.Join(found, "\n  "))
}

func (c Config) checkAddresses() []string {
	var found []string
	if host, port, err := net.SplitHostPort(c.Listen); err != nil {
		found = append(found, fmt.Sprintf("listen is %q: write an address and a port, as in 127.0.0.1:8080", c.Listen))
	} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		found = append(found, fmt.Sprintf("listen asks for port %q: a port is a number from 0 to 65535", port))
	} else if strings.ContainsAny(host, "/ ") {
		found = append(found, fmt.Sprintf("listen is %q: write an address and a port without http://", c.Listen))
	}
	if c.PublicURL != "" && !isOrigin(c.PublicURL) {
		found = append(found, fmt.Sprintf("public_url is %q: write scheme and host, as in https://agents.example.org", c.PublicURL))
	}
	if c.DatabaseURL == "" && c.DataDir == "" {
		found = append(found, "data_dir is empty: name a directory for the database, or set database_url")
	}
	if c.DatabaseURL != "" && !isPostgres(c.DatabaseURL) {
		// The URL itself stays out of the message: it holds a password.
		found = append(found, "database_url does not name a PostgreSQL: write postgres://user:password@host:5432/name")
	}
	for _, origin := range c.CORSOrigins {
		if origin == "*" {
			found = append(found, "cors_origins contains *: name the origins that may call the API one by one")
		} else if !isOrigin(origin) {
			found = append(found, fmt.Sprintf("cors_origins contains %q: write scheme and host, as in https://app.example.org", origin))
		}
	}
	return found
}

func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
}

func isPostgres(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql")
}

func (c Config) checkWords() []string {
	var found []string
	for _, w := range []struct {
		key, value string
		allowed    []string
	}{
		{"log_level", c.LogLevel, []string{"debug", "info", "warn", "error"}},
		{"log_format", c.LogFormat, []string{"auto", "json", "text"}},
		{"unsigned_agents", c.UnsignedAgents, []string{"auto", "on", "off"}},
		{"approval_on_reject", c.ApprovalOnReject, []string{"resume", "cancel"}},
		{"approval_on_expire", c.ApprovalOnExpire, []string{"resume", "cancel"}},
		{"notify_format", c.NotifyFormat, []string{"json", "slack"}},
	} {
		if !slices.Contains(w.allowed, w.value) {
			found = append(found, fmt.Sprintf("%s is %q: it can be %s", w.key, w.value, strings.Join(w.allowed, ", ")))
		}
	}
	return found
}

func (c Config) checkNumbers() []string {
	var found []string
	for _, n := range []struct {
		key        string
		value      int
		least, top int
	}{
		{"database_max_conns", c.DatabaseMaxConns, 2, 10_000},
		{"body_limit", int(c.BodyLimit), 1 << 10, 1 << 30},
		{"result_limit", int(c.ResultLimit), 1 << 10, 1 << 30},
		{"workers", c.Workers, 1, 100_000},
		{"queue_depth", c.QueueDepth, 1, 100_000_000},
		{"node_depth", c.NodeDepth, 1, 100_000_000},
		{"node_concurrency", c.NodeConcurrency, 0, 1_000_000},
		{"webhook_max_attempts", c.WebhookMaxAttempts, 1, 100},
		{"webhook_recovery_rate", c.WebhookRecoveryRate, 1, 10_000},
		{"health_failures", c.HealthFailures, 1, 1000},
		{"export_limit", c.ExportLimit, 1, 10_000_000},
		{"approval_default_expiry_hours", c.ApprovalExpiryHours, 1, 8760},
	} {
		if n.value < n.least || n.value > n.top {
			found = append(found, fmt.Sprintf("%s is %d: it can be from %d to %d", n.key, n.value, n.least, n.top))
		}
	}
	return found
}

func (c Config) checkDurations() []string {
	var found []string
	for _, d := range []struct {
		key               string
		value, least, top time.Duration
	}{
		{"shutdown_grace", c.ShutdownGrace, 0, time.Hour},
		{"sync_timeout", c.SyncTimeout, time.Second, c.MaxTimeout},
		{"max_timeout", c.MaxTimeout, time.Second, 10 * 365 * 24 * time.Hour},
		{"lease_ttl", c.LeaseTTL, time.Second, 10 * time.Minute},
		{"webhook_timeout", c.WebhookTimeout, 100 * time.Millisecond, 10 * time.Minute},
		{"webhook_backoff", c.WebhookBackoff, time.Millisecond, c.WebhookMaxBackoff},
		{"webhook_max_backoff", c.WebhookMaxBackoff, time.Millisecond, 24 * time.Hour},
		{"webhook_pause_after", c.WebhookPauseAfter, time.Millisecond, 24 * time.Hour},
		{"approval_delivery_grace", c.ApprovalGrace, time.Second, 24 * time.Hour},
		{"approval_hold", c.ApprovalHold, 0, 30 * time.Second},
		{"health_check_interval", c.HealthCheckInterval, 100 * time.Millisecond, time.Hour},
		{"health_check_timeout", c.HealthCheckTimeout, 10 * time.Millisecond, 10 * time.Minute},
	} {
		if d.value < d.least || d.value > d.top {
			found = append(found, fmt.Sprintf("%s is %s: it can be from %s to %s", d.key, d.value, d.least, d.top))
		}
	}
	return found
}

func (c Config) checkSecrets() []string {
	if c.SecretKey == "" || len(c.SecretKey) >= minSecretKey {
		return nil
	}
	return []string{fmt.Sprintf("secret_key is too short: use `openssl rand -base64 32`, or a passphrase of %d characters or more", minSecretKey)}
}

// hostPattern is a host name, or *. before a suffix of one.
var hostPattern = regexp.MustCompile(`^(\*\.)?[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*\.?$`)

func (c Config) checkHosts() []string {
	return append(checkAllowList("webhook_allowed_hosts", c.WebhookAllowedHosts), checkAllowList("serverless_allowed_hosts", c.ServerlessAllowedHosts)...)
}

func checkAllowList(key string, hosts []string) []string {
	var found []string
	for _, host := range hosts {
		if _, err := netip.ParsePrefix(host); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(host); err == nil {
			continue
		}
		if !hostPattern.MatchString(host) {
			found = append(found, fmt.Sprintf("%s contains %q: write a host, *.suffix, an address or a CIDR, without scheme and port", key, host))
		}
	}
	return found
}

var notifiable = []string{"approval.requested", "approval.decided", "approval.expired"}

func (c Config) checkNotify() []string {
	var found []string
	for _, kind := range c.NotifyEvents {
		if !slices.Contains(notifiable, kind) {
			found = append(found, fmt.Sprintf("notify_events contains %q: it can be %s", kind, strings.Join(notifiable, ", ")))
		}
	}
	if c.NotifyURL == "" {
		return found
	}
	// The URL stays out of the message: those of chat systems hold a secret.
	u, err := url.Parse(c.NotifyURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		found = append(found, "notify_url is not an address that can be posted to: write it with https://, without a user name and a fragment")
	}
	if c.NotifyFormat == "json" && c.NotifySecret == "" {
		found = append(found, "notify_secret is empty: receivers need it to tell our notifications from those of others")
	}
	return found
}

func (c Config) checkTraces() []string {
	var found []string
	if u, err := url.Parse(c.OTLPEndpoint); c.OTLPEndpoint != "" &&
		(err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		found = append(found, "otlp_endpoint is not the base address of a collector: write it as http://collector:4318")
	}
	if _, err := c.TraceHeaders(); err != nil {
		found = append(found, err.Error())
	}
	return found
}
