package conform

import (
	"encoding/json"
	"strings"
)

// sample makes up an input that fits a JSON Schema, as far as plain schemas go; for others there is --input.
func sample(schema json.RawMessage) json.RawMessage {
	var root map[string]any
	if json.Unmarshal(schema, &root) != nil || root == nil {
		return json.RawMessage("{}")
	}
	made := sampleOf(root, root, 0)
	if _, object := made.(map[string]any); !object {
		made = map[string]any{}
	}
	text, err := json.Marshal(made)
	if err != nil {
		return json.RawMessage("{}")
	}
	return text
}

func sampleOf(root, schema map[string]any, depth int) any {
	if depth > 8 {
		return nil
	}
	if ref, ok := schema["$ref"].(string); ok {
		return sampleOf(root, resolve(root, ref), depth+1)
	}
	for _, given := range []string{"const", "default"} {
		if value, ok := schema[given]; ok {
			return value
		}
	}
	for _, several := range []string{"enum", "examples"} {
		if list, ok := schema[several].([]any); ok && len(list) > 0 {
			return list[0]
		}
	}
	for _, choice := range []string{"anyOf", "oneOf", "allOf"} {
		if list, ok := schema[choice].([]any); ok && len(list) > 0 {
			if first, ok := list[0].(map[string]any); ok {
				return sampleOf(root, first, depth+1)
			}
		}
	}
	return ofType(root, schema, depth)
}

func ofType(root, schema map[string]any, depth int) any {
	kind, _ := schema["type"].(string)
	if list, ok := schema["type"].([]any); ok && len(list) > 0 {
		kind, _ = list[0].(string)
	}
	properties, _ := schema["properties"].(map[string]any)
	if kind == "" && properties != nil {
		kind = "object"
	}
	switch kind {
	case "object":
		made := map[string]any{}
		for name, property := range properties {
			if of, ok := property.(map[string]any); ok {
				made[name] = sampleOf(root, of, depth+1)
			}
		}
		return made
	case "array":
		return []any{}
	case "integer", "number":
		if least, ok := schema["minimum"]; ok {
			return least
		}
		return 1
	case "boolean":
		return true
	case "null":
		return nil
	}
	return "conformance"
}

// resolve follows a reference inside the schema, as in #/$defs/Ticket.
func resolve(root map[string]any, ref string) map[string]any {
	here := root
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		next, ok := here[part].(map[string]any)
		if !ok {
			return map[string]any{}
		}
		here = next
	}
	return here
}
