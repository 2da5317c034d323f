package config

import (
	"fmt"
	"net"
	"reflect"
	"sort"
	"strings"

	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// DefaultFile is read from the working directory when it is there and no other file is named.
const DefaultFile = "agentfield.yaml"

// Sources says where settings come from, the weakest first.
type Sources struct {
	File    string         // path of the file; empty: the flag --config, AGENTFIELD_CONFIG_FILE, else DefaultFile if it exists
	Environ []string       // NAME=value, as os.Environ returns it
	Flags   *pflag.FlagSet // parsed flags of AddFlags; nil: none
}

// layer is what one source says: settings by key, and the port alone, which changes only the port of the address.
type layer struct {
	values map[string]any
	port   string
}

// Load reads all sources and validates the outcome. Warnings are sentences about things that were given and have no effect; they
// are returned because nothing can log before the configuration is known.
func Load(from Sources) (Config, []string, error) {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(Default(), "koanf"), nil); err != nil {
		return Config{}, nil, fmt.Errorf("load the defaults: %w", err)
	}
	env := readEnvironment(from.Environ)
	var warnings []string
	for _, read := range []func() (layer, []string, error){
		func() (layer, []string, error) { return readFile(from.file(env)) },
		func() (layer, []string, error) { return env.layer() },
		func() (layer, []string, error) { return readFlags(from.Flags) },
	} {
		l, notes, err := read()
		if err != nil {
			return Config{}, warnings, err
		}
		warnings = append(warnings, notes...)
		if err := apply(k, l); err != nil {
			return Config{}, warnings, err
		}
	}
	c, err := settled(k)
	if err != nil {
		return Config{}, warnings, err
	}
	return c, warnings, c.Validate()
}

// file decides which file to read, and whether it has to exist.
func (from Sources) file(env environment) (path string, required bool) {
	for _, named := range []string{from.File, configFlag(from.Flags), env["AGENTFIELD_CONFIG_FILE"]} {
		if named != "" {
			return named, true
		}
	}
	return DefaultFile, false
}

// apply lays l over what the weaker sources said.
func apply(k *koanf.Koanf, l layer) error {
	for key, value := range l.values {
		if err := k.Set(key, value); err != nil {
			return fmt.Errorf("set %s: %w", key, err)
		}
	}
	if l.port == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(k.String("listen"))
	if err != nil {
		host = k.String("listen")
	}
	return k.Set("listen", net.JoinHostPort(host, l.port))
}

// settled fills the struct. Each layer has checked and converted its values, so the types fit.
func settled(k *koanf.Koanf) (Config, error) {
	var c Config
	fields := reflect.ValueOf(&c).Elem()
	for _, s := range settings() {
		value, err := s.parse(s.key, k.Get(s.key))
		if err != nil {
			return Config{}, err
		}
		fields.Field(s.index).Set(reflect.ValueOf(value))
	}
	return c, nil
}

// sortedKeys makes warnings and errors come in the same order each time.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

func quoted(words []string) string { return strings.Join(words, ", ") }
