package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setting is one field of Config with what its tags say.
type setting struct {
	key    string // in the file
	kind   reflect.Type
	help   string
	secret bool
	noFlag bool     // a secret and nothing else: other users of a machine can read command lines
	env    []string // the primary name first, then its aliases
	index  int
}

func (s setting) flag() string { return strings.ReplaceAll(s.key, "_", "-") }

// settings lists the fields of Config in their order.
func settings() []setting {
	t := reflect.TypeFor[Config]()
	all := make([]setting, 0, t.NumField())
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		s := setting{
			key:    tag.Get("koanf"),
			kind:   t.Field(i).Type,
			help:   tag.Get("help"),
			secret: tag.Get("secret") != "",
			noFlag: tag.Get("secret") == "yes",
			index:  i,
		}
		s.env = []string{"AGENTFIELD_" + strings.ToUpper(s.key)}
		if aliases := tag.Get("env"); aliases != "" {
			s.env = append(s.env, strings.Split(aliases, ",")...)
		}
		all = append(all, s)
	}
	return all
}

// parse turns what a file, a variable or a flag says into the type of the field. origin names the place for the error.
func (s setting) parse(origin string, value any) (any, error) {
	parsed, err := convert(s.kind, value)
	switch {
	case err != nil && s.secret:
		return nil, fmt.Errorf("%s: the value is not plain text", origin)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", origin, err)
	}
	return parsed, nil
}

func convert(kind reflect.Type, value any) (any, error) {
	switch kind {
	case reflect.TypeFor[string]():
		return toText(value)
	case reflect.TypeFor[int]():
		return toInt(value)
	case reflect.TypeFor[Size]():
		if n, ok := value.(int); ok {
			return ParseSize(strconv.Itoa(n))
		}
		return ParseSize(fmt.Sprint(value))
	case reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(fmt.Sprint(value))
		if err != nil {
			return nil, fmt.Errorf("%q is not a duration: write a number with its unit, as in 90s or 5m", fmt.Sprint(value))
		}
		return d, nil
	case reflect.TypeFor[[]string]():
		return toList(value)
	}
	return nil, fmt.Errorf("settings of type %s cannot be read", kind)
}

func toText(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case int, int64, float64, bool:
		return fmt.Sprint(v), nil
	case nil:
		return "", nil
	}
	return "", fmt.Errorf("%v is not plain text", value)
}

func toInt(value any) (int, error) {
	switch v := value.(type) {
	case int:
		return v, nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int(v), nil
		}
	case string:
		if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%q is not a whole number", fmt.Sprint(value))
}

func toList(value any) ([]string, error) {
	list := []string{}
	switch v := value.(type) {
	case nil:
	case string:
		for word := range strings.SplitSeq(v, ",") {
			if word = strings.TrimSpace(word); word != "" {
				list = append(list, word)
			}
		}
	case []string:
		list = append(list, v...)
	case []any:
		for _, item := range v {
			word, err := toText(item)
			if err != nil {
				return nil, err
			}
			list = append(list, strings.TrimSpace(word))
		}
	default:
		return nil, fmt.Errorf("%v is not a list", value)
	}
	return list, nil
}
