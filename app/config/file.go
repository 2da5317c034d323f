package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// protocolKeys are the keys of existing installations' files that mean one of our settings (wire.md 10.4). The server: part wins.
func protocolKeys() map[string]string {
	return map[string]string{
		"agentfield.execution_queue.webhook_timeout":                 "webhook_timeout",
		"agentfield.execution_queue.webhook_max_attempts":            "webhook_max_attempts",
		"agentfield.execution_queue.webhook_retry_backoff":           "webhook_backoff",
		"agentfield.execution_queue.webhook_max_retry_backoff":       "webhook_max_backoff",
		"agentfield.execution_queue.agent_call_timeout":              "sync_timeout",
		"agentfield.registration.serverless_discovery_allowed_hosts": "serverless_allowed_hosts",
		"api.auth.api_key":                          "api_key",
		"api.cors.allowed_origins":                  "cors_origins",
		"storage.postgres.url":                      "database_url",
		"features.did.authorization.internal_token": "internal_token",
	}
}

// readFile reads the file: our own part strictly, the protocol's keys where they mean something here, the rest with a warning.
// A file that is merely looked for may be missing, and may belong to an agent: it has the same name.
func readFile(path string, required bool) (layer, []string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !required {
		return layer{}, nil, nil
	}
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return layer{}, nil, fmt.Errorf("read the configuration file %s: %w", path, err)
	}
	l, warnings := readProtocolPart(path, k)
	own, err := readServerPart(path, k)
	if err != nil {
		return layer{}, nil, err
	}
	protocol, err := parseAll(path, l.values)
	if err != nil {
		return layer{}, nil, err
	}
	maps.Copy(protocol, own)
	l.values = protocol
	if _, ok := own["listen"]; ok {
		l.port = "" // the server: part wins
	}
	return l, warnings, nil
}

// readServerPart takes the keys under server:, where an unknown one is a mistake that must not pass in silence.
func readServerPart(path string, k *koanf.Koanf) (map[string]any, error) {
	raw := k.Get("server")
	if raw == nil {
		return map[string]any{}, nil
	}
	given, ok := raw.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: server: must hold settings, one per line, as in listen: 127.0.0.1:8080", path)
	}
	values := map[string]any{}
	for _, s := range settings() {
		if value, ok := given[s.key]; ok {
			values[s.key] = value
			delete(given, s.key)
		}
		if !s.secret {
			continue
		}
		if name, ok := given[s.key+"_file"]; ok {
			if _, both := values[s.key]; both {
				return nil, fmt.Errorf("%s: server.%s and server.%s_file are both given: keep one", path, s.key, s.key)
			}
			secret, err := readSecret(path+": server."+s.key+"_file", fmt.Sprint(name))
			if err != nil {
				return nil, err
			}
			values[s.key] = secret
			delete(given, s.key+"_file")
		}
	}
	if len(given) > 0 {
		return nil, fmt.Errorf("%s: unknown settings under server: %s; `agentfield config print` lists the known ones",
			path, quoted(sortedKeys(given)))
	}
	return parseAll(path, values)
}

// readProtocolPart takes what stands outside server: and names, in one warning, what of it has no effect.
func readProtocolPart(path string, k *koanf.Koanf) (layer, []string) {
	l := layer{values: map[string]any{}}
	known := protocolKeys()
	var ignored []string
	for _, key := range k.Keys() {
		value := k.Get(key)
		switch {
		case key == "server" || strings.HasPrefix(key, "server."):
		case value == nil:
		case key == "agentfield.port":
			l.port = fmt.Sprint(value)
		case key == "storage.mode" && value == "postgres" && k.String("storage.postgres.url") != "":
		case key == "storage.mode" && value == "local":
		case known[key] != "":
			l.values[known[key]] = value
		default:
			ignored = append(ignored, key)
		}
	}
	if len(ignored) == 0 {
		return l, nil
	}
	return l, []string{fmt.Sprintf("%s: this server does not use %s; its own settings go under server:", path, quoted(ignored))}
}

func parseAll(path string, values map[string]any) (map[string]any, error) {
	parsed := make(map[string]any, len(values))
	for _, s := range settings() {
		value, ok := values[s.key]
		if !ok {
			continue
		}
		p, err := s.parse(path+": "+s.key, value)
		if err != nil {
			return nil, err
		}
		parsed[s.key] = p
	}
	return parsed, nil
}

// readSecret reads a secret from a file, as containers mount them. The newline that editors leave at the end is not part of it.
func readSecret(origin, name string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("%s: read the secret: %w", origin, err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s: the file %s is empty", origin, name)
	}
	return secret, nil
}
