package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultAgents = 100
	maxAgents     = 500
)

// ParameterError is a query parameter that cannot be read (wire.md 3.4: 400 invalid_parameter with these details).
type ParameterError struct {
	Parameter string
	Provided  string
	Allowed   []string
}

func (e *ParameterError) Error() string {
	return fmt.Sprintf("%s cannot be %q; allowed: %s", e.Parameter, shorten(e.Provided), strings.Join(e.Allowed, ", "))
}

// DiscoveryQuery is what GET /api/v1/discovery/capabilities asks for.
type DiscoveryQuery struct {
	Agents              []string // ids; none: all
	Reasoner            string   // glob on the id
	Skill               string   // glob on the id
	Tags                []string // globs; one that matches is enough
	IncludeInputSchema  bool
	IncludeOutputSchema bool
	IncludeDescriptions bool
	IncludeExamples     bool
	Health              string
	Format              string // JSON, Compact or XML
	Limit               int    // of agents
	Offset              int
}

// ParseDiscovery reads the query parameters; get returns "" for one that is missing. What is wrong is a ParameterError.
func ParseDiscovery(get func(name string) string) (DiscoveryQuery, error) {
	q := DiscoveryQuery{
		IncludeDescriptions: true, Limit: defaultAgents, Reasoner: get("reasoner"), Skill: get("skill"), Tags: words(get("tags")),
	}
	for _, name := range []string{"agent", "node_id"} {
		if id := strings.TrimSpace(get(name)); id != "" {
			q.Agents = append(q.Agents, id)
		}
	}
	for _, name := range []string{"agent_ids", "node_ids"} {
		q.Agents = append(q.Agents, words(get(name))...)
	}
	for name, into := range map[string]*bool{
		"include_input_schema": &q.IncludeInputSchema, "include_output_schema": &q.IncludeOutputSchema,
		"include_descriptions": &q.IncludeDescriptions, "include_examples": &q.IncludeExamples,
	} {
		if err := parseBool(name, get(name), into); err != nil {
			return DiscoveryQuery{}, err
		}
	}
	if err := oneOf("format", get("format"), []string{JSON, Compact, XML}); err != nil {
		return DiscoveryQuery{}, err
	}
	q.Format = strings.ToLower(strings.TrimSpace(get("format")))
	if err := oneOf("health_status", get("health_status"), []string{Active, Inactive, Degraded, Unknown}); err != nil {
		return DiscoveryQuery{}, err
	}
	q.Health = strings.ToLower(strings.TrimSpace(get("health_status")))
	if err := parseCount("limit", get("limit"), maxAgents, &q.Limit); err != nil {
		return DiscoveryQuery{}, err
	}
	if err := parseCount("offset", get("offset"), 1<<30, &q.Offset); err != nil {
		return DiscoveryQuery{}, err
	}
	return q, nil
}

func words(list string) []string {
	var out []string
	for word := range strings.SplitSeq(list, ",") {
		if word = strings.TrimSpace(word); word != "" {
			out = append(out, word)
		}
	}
	return out
}

func parseBool(name, text string, into *bool) error {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "":
	case "true", "1", "yes", "y", "on":
		*into = true
	case "false", "0", "no", "n", "off":
		*into = false
	default:
		return &ParameterError{Parameter: name, Provided: text, Allowed: []string{"true", "false"}}
	}
	return nil
}

func oneOf(name, text string, allowed []string) error {
	word := strings.ToLower(strings.TrimSpace(text))
	if word == "" || slices.Contains(allowed, word) {
		return nil
	}
	return &ParameterError{Parameter: name, Provided: text, Allowed: allowed}
}

func parseCount(name, text string, most int, into *int) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 0 || n > most {
		return &ParameterError{Parameter: name, Provided: text, Allowed: []string{"0–" + strconv.Itoa(most)}}
	}
	*into = n
	return nil
}

// Capabilities answers discovery.
type Capabilities struct {
	DiscoveredAt   string           `json:"discovered_at"`
	TotalAgents    int              `json:"total_agents"`
	TotalReasoners int              `json:"total_reasoners"`
	TotalSkills    int              `json:"total_skills"`
	Pagination     Pagination       `json:"pagination"`
	Capabilities   []CapabilityJSON `json:"capabilities"`
}

// Pagination counts agents.
type Pagination struct {
	Limit   int  `json:"limit"`
	Offset  int  `json:"offset"`
	HasMore bool `json:"has_more"`
}

// CapabilityJSON is one agent with what it can do.
type CapabilityJSON struct {
	AgentID        string           `json:"agent_id"`
	GroupID        string           `json:"group_id"`
	BaseURL        string           `json:"base_url"`
	Version        string           `json:"version"`
	HealthStatus   string           `json:"health_status"`
	DeploymentType string           `json:"deployment_type"`
	LastHeartbeat  string           `json:"last_heartbeat"`
	Reasoners      []DiscoveredJSON `json:"reasoners"`
	Skills         []DiscoveredJSON `json:"skills"`
}

// DiscoveredJSON is one function with the target to call it by.
type DiscoveredJSON struct {
	ID               string          `json:"id"`
	Description      string          `json:"description,omitempty"`
	Tags             []string        `json:"tags,omitempty"`
	InputSchema      json.RawMessage `json:"input_schema,omitempty"`
	OutputSchema     json.RawMessage `json:"output_schema,omitempty"`
	Examples         json.RawMessage `json:"examples,omitempty"`
	InvocationTarget string          `json:"invocation_target"`
}

// Capabilities lists what can be called, newest registration first. Totals count the whole filtered set, the page counts agents.
func (s *Service) Capabilities(ctx context.Context, q DiscoveryQuery) (*Capabilities, error) {
	where := s.db.Gorm(ctx)
	if len(q.Agents) > 0 {
		where = where.Where("id IN ?", q.Agents[:min(len(q.Agents), maxAgents)])
	}
	agents, err := s.read(ctx, where, q.IncludeInputSchema || q.IncludeOutputSchema)
	if err != nil {
		return nil, err
	}
	c := &Capabilities{
		DiscoveredAt: stamp(s.db.NowMs()), Pagination: Pagination{Limit: q.Limit, Offset: q.Offset}, Capabilities: []CapabilityJSON{},
	}
	for _, a := range agents {
		found := q.match(a)
		if len(found.Reasoners)+len(found.Skills) == 0 {
			continue
		}
		if c.TotalAgents >= q.Offset && len(c.Capabilities) < q.Limit {
			c.Capabilities = append(c.Capabilities, found)
		}
		c.TotalAgents++
		c.TotalReasoners += len(found.Reasoners)
		c.TotalSkills += len(found.Skills)
	}
	c.Pagination.HasMore = q.Offset+len(c.Capabilities) < c.TotalAgents
	return c, nil
}

// match is what is left of an agent. A glob narrows only its own kind, tags narrow both.
func (q DiscoveryQuery) match(a *AgentJSON) CapabilityJSON {
	found := CapabilityJSON{
		AgentID: a.ID, GroupID: a.GroupID, BaseURL: a.BaseURL, Version: a.Version, HealthStatus: a.HealthStatus,
		DeploymentType: a.DeploymentType, LastHeartbeat: a.LastHeartbeat, Reasoners: []DiscoveredJSON{}, Skills: []DiscoveredJSON{},
	}
	if q.Health != "" && q.Health != a.HealthStatus {
		return found
	}
	examples := map[string]json.RawMessage{}
	if q.IncludeExamples {
		examples = customOf(a.Metadata).Examples
	}
	for _, f := range a.Reasoners {
		if q.wants(q.Reasoner, f) {
			found.Reasoners = append(found.Reasoners, q.show(f, a.ID+":"+f.ID, examples[f.ID]))
		}
	}
	for _, f := range a.Skills {
		if q.wants(q.Skill, f) {
			found.Skills = append(found.Skills, q.show(f, a.ID+":skill:"+f.ID, examples[f.ID]))
		}
	}
	return found
}

func (q DiscoveryQuery) wants(pattern string, f FunctionJSON) bool {
	if pattern != "" && !glob(pattern, f.ID) {
		return false
	}
	if len(q.Tags) == 0 {
		return true
	}
	for _, tag := range f.Tags {
		if slices.ContainsFunc(q.Tags, func(pattern string) bool { return glob(pattern, tag) }) {
			return true
		}
	}
	return false
}

func (q DiscoveryQuery) show(f FunctionJSON, target string, examples json.RawMessage) DiscoveredJSON {
	shown := DiscoveredJSON{ID: f.ID, Tags: f.Tags, InvocationTarget: target, Examples: examples}
	if q.IncludeDescriptions {
		shown.Description = f.Description
	}
	if q.IncludeInputSchema {
		shown.InputSchema = f.InputSchema
	}
	if q.IncludeOutputSchema {
		shown.OutputSchema = f.OutputSchema
	}
	return shown
}

// glob matches text with a pattern in which * stands for anything.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return strings.HasSuffix(text, parts[last])
}
