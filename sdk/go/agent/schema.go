package agent

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

type schema map[string]any

// schemaOf describes how encoding/json reads and writes a type, in JSON Schema. Further keys are allowed everywhere.
func schemaOf(t reflect.Type) json.RawMessage {
	encoded, err := json.Marshal(describe(t, nil))
	if err != nil { // maps of strings, slices and booleans always encode
		panic(fmt.Sprintf("agent: schema of %s: %v", t, err))
	}
	return encoded
}

var (
	instant  = reflect.TypeFor[time.Time]()
	writes   = reflect.TypeFor[json.Marshaler]()
	writesIt = reflect.TypeFor[encoding.TextMarshaler]()
)

// describe goes down a type. within are the structs above it: one that contains itself is described once.
func describe(t reflect.Type, within []reflect.Type) schema {
	switch {
	case t == instant:
		return schema{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		return nullable(describe(t.Elem(), within))
	case t.Kind() == reflect.Interface, t.Implements(writes), reflect.PointerTo(t).Implements(writes):
		return schema{}
	case t.Implements(writesIt), reflect.PointerTo(t).Implements(writesIt):
		return schema{"type": "string"}
	}
	switch t.Kind() { //nolint:exhaustive // channels and the like cannot be JSON: anything goes, and encoding says no
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return schema{"type": "integer", "minimum": 0}
	case reflect.Slice, reflect.Array:
		return describeList(t, within)
	case reflect.Map:
		return nullable(schema{"type": "object", "additionalProperties": describe(t.Elem(), within)})
	case reflect.Struct:
		return describeStruct(t, within)
	}
	return schema{}
}

func describeList(t reflect.Type, within []reflect.Type) schema {
	if t.Kind() == reflect.Array {
		return schema{"type": "array", "items": describe(t.Elem(), within)}
	}
	if t.Elem().Kind() == reflect.Uint8 {
		return nullable(schema{"type": "string", "contentEncoding": "base64"})
	}
	return nullable(schema{"type": "array", "items": describe(t.Elem(), within)})
}

func describeStruct(t reflect.Type, within []reflect.Type) schema {
	if slices.Contains(within, t) {
		return schema{"type": "object"}
	}
	within = append(slices.Clone(within), t)
	o := object{properties: schema{}}
	o.add(t, within)
	s := schema{"type": "object", "properties": o.properties}
	if len(o.required) > 0 {
		s["required"] = o.required
	}
	return s
}

type object struct {
	properties schema
	required   []string
}

// add describes the fields of a struct; those of embedded structs without a name of their own count as its own.
func (o *object) add(t reflect.Type, within []reflect.Type) {
	for field := range t.Fields() {
		name, optional, shown := jsonName(field)
		if inner := embedded(field, name); inner != nil && !slices.Contains(within, inner) {
			o.add(inner, append(slices.Clone(within), inner))
			continue
		}
		if !shown {
			continue
		}
		property := describe(field.Type, within)
		if text := field.Tag.Get("description"); text != "" {
			property["description"] = text
		}
		if words := field.Tag.Get("enum"); words != "" {
			property["enum"] = strings.Split(words, ",")
		}
		o.properties[first(name, field.Name)] = property
		if !optional {
			o.required = append(o.required, first(name, field.Name))
		}
	}
}

func embedded(field reflect.StructField, name string) reflect.Type {
	t := field.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !field.Anonymous || name != "" || t.Kind() != reflect.Struct {
		return nil
	}
	return t
}

// jsonName reads the json tag as encoding/json does.
func jsonName(field reflect.StructField) (name string, optional, shown bool) {
	tag := field.Tag.Get("json")
	name, rest, _ := strings.Cut(tag, ",")
	options := strings.Split(rest, ",")
	optional = field.Type.Kind() == reflect.Pointer || slices.Contains(options, "omitempty") || slices.Contains(options, "omitzero")
	return name, optional, tag != "-" && field.IsExported()
}

// nullable adds null to the types: encoding/json takes it for pointers, slices and maps, and writes it when they are nil.
func nullable(s schema) schema {
	if kind, ok := s["type"].(string); ok {
		s["type"] = []string{kind, "null"}
	}
	return s
}
