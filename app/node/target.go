package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/agentfield/agentfield/app/database"
)

// ErrInvalidTarget says that a target cannot be read at all.
var ErrInvalidTarget = errors.New("a target is written node.function")

// ParseTarget reads node.function, and the forms that discovery gives: node:function and node:skill:function.
func ParseTarget(target string) (node, function string, err error) {
	parts := strings.Split(target, ".")
	if len(parts) == 1 {
		parts = strings.Split(target, ":")
		if len(parts) == 3 && (parts[1] == Skill || parts[1] == Reasoner) {
			parts = []string{parts[0], parts[2]}
		}
	}
	if len(parts) != 2 {
		return "", "", fmt.Errorf("%q: %w", shorten(target), ErrInvalidTarget)
	}
	if problem := checkName("node", parts[0]); problem != nil {
		return "", "", fmt.Errorf("%q: %w: %w", shorten(target), ErrInvalidTarget, problem)
	}
	if problem := checkName("function", parts[1]); problem != nil {
		return "", "", fmt.Errorf("%q: %w: %w", shorten(target), ErrInvalidTarget, problem)
	}
	return parts[0], parts[1], nil
}

// Function is one function of a node as the hot path needs it. It does not change; a registration makes new ones.
type Function struct {
	NodeID     string
	Name       string
	Kind       string // reasoner or skill
	Limited    bool   // it or its node has a cap or a rate
	NodeDepth  int    // executions that may wait for the node; 0: as many as the server allows
	Depth      int    // … for this function; 0: as many as for the node
	Idempotent bool   // may see the same execution twice
	schema     *schema
}

// tagIdempotent marks functions that may see the same execution twice.
const tagIdempotent = "idempotent"

// Path is where an instance serves the function.
func (f *Function) Path() string { return "/" + f.Kind + "s/" + url.PathEscape(f.Name) }

// Validate checks an input against the registered schema: an InputError when it does not fit, nil when there is no schema.
func (f *Function) Validate(input []byte) error {
	if f.schema == nil {
		return nil
	}
	return f.schema.validate(input)
}

// UnknownError names what was asked for and what exists. It is ErrUnknownNode or ErrUnknownFunction.
type UnknownError struct {
	Node     string
	Function string   // empty when the node itself is unknown
	Known    []string // up to five, the most similar first
}

func (e *UnknownError) Error() string {
	text := "no node " + shorten(e.Node) + " is registered"
	if e.Function != "" {
		text = "node " + shorten(e.Node) + " has no function " + shorten(e.Function)
	}
	if len(e.Known) > 0 {
		text += "; there is " + strings.Join(e.Known, ", ")
	}
	return text
}

// Is makes the two sentinels answer to errors.Is.
func (e *UnknownError) Is(target error) bool {
	if e.Function == "" {
		return target == ErrUnknownNode //nolint:errorlint // this is how errors.Is asks
	}
	return target == ErrUnknownFunction //nolint:errorlint // as above
}

// Lookup finds a function, from memory when it can. What memory does not know is asked of the database before it is called unknown.
func (s *Service) Lookup(ctx context.Context, nodeID, name string) (*Function, error) {
	sh, e, err := s.entry(ctx, nodeID)
	if errors.Is(err, ErrUnknownNode) {
		return nil, &UnknownError{Node: nodeID, Known: s.similarNodes(ctx, nodeID)}
	}
	if err != nil {
		return nil, err
	}
	if f := e.functions[name]; f != nil {
		return f, nil
	}
	if s.mayBeStale(e) {
		if e, err = s.load(ctx, nodeID, sh, e); err != nil {
			return nil, err
		}
		if f := e.functions[name]; f != nil {
			return f, nil
		}
	}
	names := make([]string, 0, len(e.functions))
	for known := range e.functions {
		names = append(names, known)
	}
	return nil, &UnknownError{Node: nodeID, Function: name, Known: similar(name, names)}
}

func (s *Service) similarNodes(ctx context.Context, nodeID string) []string {
	var ids []string
	if s.db.Gorm(ctx).Table("nodes").Order("updated_at DESC").Limit(500).Pluck("id", &ids).Error != nil {
		return nil // a hint that may be missing
	}
	return similar(nodeID, ids)
}

const suggestions = 5

// similar sorts names by their distance from the one that was asked for.
func similar(asked string, names []string) []string {
	asked = shorten(asked)
	away := make(map[string]int, len(names))
	for _, name := range names {
		away[name] = distance(strings.ToLower(asked), strings.ToLower(shorten(name)))
	}
	slices.SortFunc(names, func(a, b string) int {
		if away[a] != away[b] {
			return away[a] - away[b]
		}
		return strings.Compare(a, b)
	})
	return names[:min(len(names), suggestions)]
}

// distance counts the bytes to insert, drop or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// InputSchema is the JSON Schema that a function was registered with, nil when it has none; the errors are those of Lookup.
func (s *Service) InputSchema(ctx context.Context, nodeID, name string) ([]byte, error) {
	if _, err := s.Lookup(ctx, nodeID, name); err != nil {
		return nil, err
	}
	var schema *string
	err := s.db.QueryRow(ctx, "SELECT input_schema FROM functions WHERE node_id = $1 AND name = $2", []any{nodeID, name}, &schema)
	if err != nil && !errors.Is(err, database.ErrNoRows) { // gone meanwhile: whoever calls it will be told
		return nil, fmt.Errorf("read the schema of %s.%s: %w", nodeID, name, err)
	}
	if schema == nil {
		return nil, nil
	}
	return []byte(*schema), nil
}
