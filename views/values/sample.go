package values

import (
	"encoding/json"
	"strings"
)

const sampleDepth = 6 // levels of a sample; schemas may contain themselves

// Sample is a small JSON object of the shape that a schema describes: its required members, with the values that the schema itself names
// where it does. It shows people what an input looks like; whether the function takes it is for the function to say.
func Sample(schema []byte) []byte {
	root, err := parse(schema)
	if err != nil || root.kind != object {
		return []byte("{}")
	}
	if s := sample(root, 0); strings.HasPrefix(s, "{") {
		return []byte(s)
	}
	return []byte("{}")
}

func sample(v *Value, depth int) string {
	if named := firstOf(v); named != nil {
		return named.String()
	}
	switch textOf(v.Get("type")) {
	case "string":
		return `"…"`
	case "number", "integer":
		if least := literal(v.Get("minimum")); least != "" {
			return least
		}
		return "1"
	case "boolean":
		return "true"
	case "array":
		if item := v.Get("items"); item != nil && item.kind == object && depth < sampleDepth {
			return "[" + sample(item, depth+1) + "]"
		}
		return "[]"
	case "object", "":
		return sampleObject(v, depth)
	}
	return "null"
}

// firstOf is the value that a schema names for itself, if any.
func firstOf(v *Value) *Value {
	for _, word := range []string{"default", "const", "example"} {
		if named := v.Get(word); named != nil {
			return named
		}
	}
	for _, word := range []string{"examples", "enum"} {
		if list := v.Get(word); list != nil && len(list.items) > 0 {
			return list.items[0]
		}
	}
	return nil
}

func sampleObject(v *Value, depth int) string {
	properties, required := v.Get("properties"), v.Get("required")
	if properties == nil || required == nil || depth >= sampleDepth {
		return "{}"
	}
	var members []string
	for _, name := range required.items {
		p := properties.Get(name.text)
		if p == nil || p.kind != object {
			continue
		}
		key, err := json.Marshal(name.text)
		if err != nil { // strings always marshal
			continue
		}
		members = append(members, string(key)+": "+sample(p, depth+1))
	}
	return "{" + strings.Join(members, ", ") + "}"
}
