package config

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/spf13/pflag"
)

// AddFlags adds one flag per setting, except secrets, and the flags that existing installations know (wire.md 10.4).
func AddFlags(fs *pflag.FlagSet) {
	defaults := reflect.ValueOf(Default())
	for _, s := range settings() {
		if s.noFlag {
			continue
		}
		addFlag(fs, s, defaults.Field(s.index).Interface())
	}
	fs.Int("port", 0, "change only the port of the listen address; 0: any free one")
	fs.String("config", "", "configuration file (default "+DefaultFile+", if it exists)")
	fs.Bool("verbose", false, "same as --log-level debug")

	fs.String("postgres-url", "", "same as --database-url")
	fs.String("storage-mode", "", "local or postgres; the database URL decides")
	for _, name := range withoutEffect() {
		fs.Bool(name, false, "accepted for existing scripts; has no effect")
		hide(fs, name)
	}
	hide(fs, "postgres-url")
	hide(fs, "storage-mode")
}

// withoutEffect lists flags of existing start scripts: what they switch is always there, or is not part of this server.
func withoutEffect() []string {
	return []string{"backend-only", "ui-dev", "open", "vc-execution", "no-vc-execution"}
}

func hide(fs *pflag.FlagSet, name string) { fs.Lookup(name).Hidden = true }

func addFlag(fs *pflag.FlagSet, s setting, fallback any) {
	switch v := fallback.(type) {
	case string:
		fs.String(s.flag(), v, s.help)
	case int:
		fs.Int(s.flag(), v, s.help)
	case time.Duration:
		fs.Duration(s.flag(), v, s.help)
	case []string:
		fs.StringSlice(s.flag(), v, s.help)
	case Size:
		fs.Var(&v, s.flag(), s.help)
	}
}

func configFlag(fs *pflag.FlagSet) string {
	if fs == nil || !fs.Changed("config") {
		return ""
	}
	return fs.Lookup("config").Value.String()
}

// readFlags takes the flags that were given.
func readFlags(fs *pflag.FlagSet) (layer, []string, error) {
	l := layer{values: map[string]any{}}
	if fs == nil {
		return l, nil, nil
	}
	if fs.Changed("verbose") {
		l.values["log_level"] = "debug"
	}
	if fs.Changed("postgres-url") {
		l.values["database_url"] = fs.Lookup("postgres-url").Value.String()
	}
	for _, s := range settings() {
		if s.noFlag || !fs.Changed(s.flag()) {
			continue
		}
		value, err := s.parse("--"+s.flag(), flagValue(fs.Lookup(s.flag())))
		if err != nil {
			return layer{}, nil, err
		}
		l.values[s.key] = value
	}
	if fs.Changed("port") {
		l.port = fs.Lookup("port").Value.String()
	}
	if err := storageFlag(fs, l); err != nil {
		return layer{}, nil, err
	}
	var notes []string
	for _, name := range withoutEffect() {
		if fs.Changed(name) {
			notes = append(notes, "--"+name+" is accepted, but has no effect on this server")
		}
	}
	return l, notes, nil
}

func flagValue(f *pflag.Flag) any {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return f.Value.String()
}

// storageFlag honours --storage-mode: local means SQLite even where the environment names a database.
func storageFlag(fs *pflag.FlagSet, l layer) error {
	if !fs.Changed("storage-mode") {
		return nil
	}
	_, hasURL := l.values["database_url"]
	switch mode := fs.Lookup("storage-mode").Value.String(); mode {
	case "local":
		if hasURL {
			return errors.New("--storage-mode local and a database URL contradict each other: leave one out")
		}
		l.values["database_url"] = ""
		return nil
	case "postgres", "postgresql":
		return nil
	default:
		return fmt.Errorf("--storage-mode is %q: it can be local or postgres", mode)
	}
}
