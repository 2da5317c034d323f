package config

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// environment holds the variables by name. An empty variable counts as not given: compose files pass those on.
type environment map[string]string

func readEnvironment(environ []string) environment {
	env := environment{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if value != "" {
			env[name] = value
		}
	}
	return env
}

// layer resolves the names of every setting: the primary one wins over its aliases.
func (env environment) layer() (layer, []string, error) {
	l := layer{values: map[string]any{}, port: env.port()}
	for _, s := range settings() {
		for _, name := range s.env {
			value, given, err := env.read(s, name)
			if err != nil {
				return layer{}, nil, err
			}
			if given {
				l.values[s.key] = value
				break
			}
		}
	}
	if err := env.storage(l); err != nil {
		return layer{}, nil, err
	}
	return l, env.unused(), nil
}

func (env environment) read(s setting, name string) (value any, given bool, err error) {
	text, given := env[name]
	if path, ok := env[name+"_FILE"]; ok && s.secret {
		if given {
			return nil, false, fmt.Errorf("%s and %s_FILE are both set: keep one", name, name)
		}
		text, err = readSecret(name+"_FILE", path)
		if err != nil {
			return nil, false, err
		}
		given = true
	}
	if !given {
		return nil, false, nil
	}
	value, err = s.parse(name, text)
	return value, true, err
}

// port prefers our name to the general one. Kubernetes gives every pod AGENTFIELD_PORT=tcp://… when a service is called
// "agentfield": that is an address of the service and not for us.
func (env environment) port() string {
	if port := env["AGENTFIELD_PORT"]; port != "" && !strings.Contains(port, "://") {
		return port
	}
	return env["PORT"]
}

// storage reads the variables that describe PostgreSQL in parts.
func (env environment) storage(l layer) error {
	if _, ok := l.values["database_url"]; !ok {
		if u := env.postgresURL(); u != "" {
			l.values["database_url"] = u
		}
	}
	_, hasURL := l.values["database_url"]
	switch mode := env["AGENTFIELD_STORAGE_MODE"]; mode {
	case "", "local":
		return nil
	case "postgres", "postgresql":
		if hasURL {
			return nil
		}
		return fmt.Errorf("AGENTFIELD_STORAGE_MODE is %s, but no database is named: set AGENTFIELD_DATABASE_URL to postgres://…", mode)
	default:
		return fmt.Errorf("AGENTFIELD_STORAGE_MODE is %q: it can be local or postgres", mode)
	}
}

const storagePrefix = "AGENTFIELD_STORAGE_POSTGRES_"

func (env environment) postgresURL() string {
	host := env[storagePrefix+"HOST"]
	if host == "" {
		return ""
	}
	u := url.URL{Scheme: "postgres", Host: host, Path: "/" + env[storagePrefix+"DATABASE"]}
	if port := env[storagePrefix+"PORT"]; port != "" {
		u.Host = net.JoinHostPort(host, port)
	}
	if user := env[storagePrefix+"USER"]; user != "" {
		u.User = url.User(user)
		if password := env[storagePrefix+"PASSWORD"]; password != "" {
			u.User = url.UserPassword(user, password)
		}
	}
	if mode := env[storagePrefix+"SSLMODE"]; mode != "" {
		u.RawQuery = url.Values{"sslmode": {mode}}.Encode()
	}
	return u.String()
}

// unused names the AGENTFIELD_ variables that have no effect on the server; a misspelt one is found this way.
func (env environment) unused() []string {
	known := map[string]bool{
		"AGENTFIELD_CONFIG_FILE": true, "AGENTFIELD_PORT": true, "AGENTFIELD_STORAGE_MODE": true,
		// Clients and agents read these, often in the same shell.
		"AGENTFIELD_SERVER": true, "AGENTFIELD_SERVER_URL": true, "AGENTFIELD_TOKEN": true, "AGENTFIELD_URL": true, "AGENTFIELD_AI": true,
	}
	for _, part := range []string{"HOST", "PORT", "DATABASE", "USER", "PASSWORD", "SSLMODE"} {
		known[storagePrefix+part] = true
	}
	for _, s := range settings() {
		for _, name := range s.env {
			known[name] = true
			known[name+"_FILE"] = known[name+"_FILE"] || s.secret
		}
	}
	var names []string
	for _, name := range sortedKeys(env) {
		ofKubernetes := strings.HasPrefix(name, "AGENTFIELD_PORT_") || strings.HasPrefix(name, "AGENTFIELD_SERVICE_")
		if strings.HasPrefix(name, "AGENTFIELD_") && !known[name] && !ofKubernetes {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{"these variables are set, but this server does not use them: " + quoted(names)}
}
