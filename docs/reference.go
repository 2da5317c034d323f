package docs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// contract is what the reference shows of api/openapi.yaml.
type contract struct {
	Info  struct{ Description string }
	Tags  []struct{ Name, Description string }
	Paths yaml.Node

	Components struct {
		Parameters    map[string]parameter
		RequestBodies map[string]body `yaml:"requestBodies"`
		Responses     map[string]response
		Schemas       map[string]schema
	}
	Codes yaml.Node `yaml:"x-error-codes"`
}

type operation struct {
	method, path string

	Tags        []string
	Scope       string `yaml:"x-scope"`
	Summary     string
	Description string
	Parameters  []parameter
	Body        *body `yaml:"requestBody"`
	Responses   map[string]response
}

type parameter struct {
	Ref         string `yaml:"$ref"`
	Name        string
	In          string
	Description string
	Required    bool
	Schema      schema
}

type body struct {
	Ref     string `yaml:"$ref"`
	Content map[string]struct{ Schema schema }
}

type response struct {
	Ref         string `yaml:"$ref"`
	Description string
}

type schema struct {
	Ref         string    `yaml:"$ref"`
	Type        yaml.Node // a word or a list of words
	Enum        []any
	Description string
	Properties  yaml.Node // in the order of the file
	Items       *schema
	AnyOf       []schema `yaml:"anyOf"`
	OneOf       []schema `yaml:"oneOf"`
	AllOf       []schema `yaml:"allOf"`
}

// referenceOf writes the contract as a guide: every operation with what it takes and answers, and every word of an error.
func referenceOf(openAPI []byte) ([]byte, error) {
	var c contract
	if err := yaml.Unmarshal(openAPI, &c); err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	operations, err := c.operations()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# HTTP reference\n\nEvery address of the API, made from `/api/v1/openapi.yaml`, which client generators read.\n\n%s\n", c.Info.Description)
	for _, tag := range c.Tags {
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n", tag.Name, capital(tag.Description))
		for _, o := range operations {
			if slices.Contains(o.Tags, tag.Name) {
				c.operation(&b, o)
			}
		}
	}
	err = c.codes(&b)
	return b.Bytes(), err
}

// operations reads the paths in the order of the file.
func (c *contract) operations() ([]operation, error) {
	var all []operation
	for i := 0; i+1 < len(c.Paths.Content); i += 2 {
		item := c.Paths.Content[i+1]
		for j := 0; j+1 < len(item.Content); j += 2 {
			o := operation{method: strings.ToUpper(item.Content[j].Value), path: c.Paths.Content[i].Value}
			if err := item.Content[j+1].Decode(&o); err != nil {
				return nil, fmt.Errorf("read %s %s of the contract: %w", o.method, o.path, err)
			}
			all = append(all, o)
		}
	}
	return all, nil
}

func (c *contract) operation(b *bytes.Buffer, o operation) {
	fmt.Fprintf(b, "\n### %s %s\n\n%s. Needs the right `%s`.\n", o.method, o.path, strings.TrimSuffix(capital(o.Summary), "."), o.Scope)
	if o.Description != "" {
		fmt.Fprintf(b, "\n%s\n", strings.TrimSpace(o.Description))
	}
	rows := make([][3]string, 0, len(o.Parameters))
	for _, p := range o.Parameters {
		if p.Ref != "" {
			p = c.Components.Parameters[last(p.Ref)]
		}
		rows = append(rows, [3]string{p.Name, p.In + needed(p.Required), join(c.kind(p.Schema), p.Description)})
	}
	table(b, "Parameter", "In", rows)
	if o.Body != nil {
		c.members(b, *o.Body)
	}
	c.answers(b, o.Responses)
}

// members lists what the JSON object of a request may have.
func (c *contract) members(b *bytes.Buffer, of body) {
	if of.Ref != "" {
		of = c.Components.RequestBodies[last(of.Ref)]
	}
	s := c.resolve(of.Content["application/json"].Schema)
	var rows [][3]string
	for i := 0; i+1 < len(s.Properties.Content); i += 2 {
		var property schema
		if s.Properties.Content[i+1].Decode(&property) != nil {
			continue
		}
		description := property.Description
		if description == "" {
			description = c.resolve(property).Description
		}
		rows = append(rows, [3]string{s.Properties.Content[i].Value, c.kind(property), description})
	}
	table(b, "Member of the body", "Type", rows)
}

func (c *contract) answers(b *bytes.Buffer, responses map[string]response) {
	statuses := make([]string, 0, len(responses))
	for status := range responses {
		if status != "default" {
			statuses = append(statuses, status)
		}
	}
	slices.Sort(statuses)
	rows := make([][3]string, 0, len(statuses))
	for _, status := range statuses {
		r := responses[status]
		if r.Description == "" {
			r = c.Components.Responses[last(r.Ref)]
		}
		rows = append(rows, [3]string{status, r.Description, ""})
	}
	table(b, "Answer", "Meaning", rows)
}

// codes lists the words of errors, with what to do about each.
func (c *contract) codes(b *bytes.Buffer) error {
	b.WriteString("\n## Error codes\n\nEvery word that `code` may be, the HTTP statuses it comes with, and what to do about it.\n")
	var rows [][3]string
	for i := 0; i+1 < len(c.Codes.Content); i += 2 {
		var code struct {
			Status []int
			Hint   string
		}
		if err := c.Codes.Content[i+1].Decode(&code); err != nil {
			return fmt.Errorf("read the error codes of the contract: %w", err)
		}
		rows = append(rows, [3]string{c.Codes.Content[i].Value, strings.Trim(fmt.Sprint(code.Status), "[]"), code.Hint})
	}
	table(b, "Code", "HTTP", rows)
	return nil
}

func (c *contract) resolve(s schema) schema {
	for depth := 0; s.Ref != "" && depth < 8; depth++ {
		s = c.Components.Schemas[last(s.Ref)]
	}
	return s
}

// kind is the type of a value in a few words.
func (c *contract) kind(s schema) string {
	s = c.resolve(s)
	if len(s.Enum) > 0 {
		words := make([]string, len(s.Enum))
		for i, word := range s.Enum {
			words[i] = fmt.Sprintf("`%v`", word)
		}
		return strings.Join(words, ", ")
	}
	words := []string{s.Type.Value}
	for _, word := range s.Type.Content {
		words = append(words, word.Value)
	}
	for _, other := range slices.Concat(s.AnyOf, s.OneOf) {
		words = append(words, c.kind(other))
	}
	words = slices.DeleteFunc(words, func(word string) bool { return word == "" || word == "null" })
	if s.Items != nil {
		if kind := c.kind(*s.Items); kind != "" {
			words = append(words, "of "+kind)
		}
	}
	return strings.Join(words, " ")
}

// table writes rows of which the first column is code; the third column is left out when nobody has it.
func table(b *bytes.Buffer, first, second string, rows [][3]string) {
	if len(rows) == 0 {
		return
	}
	third := slices.ContainsFunc(rows, func(r [3]string) bool { return r[2] != "" })
	fmt.Fprintf(b, "\n| %s | %s |", first, second)
	if third {
		b.WriteString(" Meaning |")
	}
	b.WriteString("\n|---|---|")
	if third {
		b.WriteString("---|")
	}
	b.WriteByte('\n')
	for _, r := range rows {
		fmt.Fprintf(b, "| `%s` | %s |", cell(r[0]), cell(r[1]))
		if third {
			fmt.Fprintf(b, " %s |", cell(r[2]))
		}
		b.WriteByte('\n')
	}
}

// cell keeps a text within its cell.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

func join(kind, description string) string {
	if kind == "" || description == "" {
		return kind + description
	}
	return kind + "; " + description
}

func needed(required bool) string {
	if required {
		return ", required"
	}
	return ""
}

func last(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
