package node

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/agentfield/agentfield/models"
)

const (
	maxName      = 255
	maxFunctions = 1000
	maxSchema    = 256 << 10
	maxMetadata  = 256 << 10
	maxText      = 16 << 10 // of a description
)

// newcomer is a registration that has been found good, in the words of the tables.
type newcomer struct {
	node      models.Node
	profile   profile
	functions []models.Function
	instance  models.Instance
	callback  *CallbackDiscovery
	token     string
}

// check turns a registration into rows, or says what is wrong with it. It asks no database and no network.
func (s *Service) check(r Registration, clientIP string) (*newcomer, error) {
	if err := checkNames(&r); err != nil {
		return nil, err
	}
	base, invocation, callback, err := s.addresses(r, clientIP)
	if err != nil {
		return nil, err
	}
	custom := customOf(r.Metadata)
	functions, err := s.checkFunctions(r, custom)
	if err != nil {
		return nil, err
	}
	n := &newcomer{functions: functions, callback: callback, token: r.NodeToken}
	n.profile, err = s.profileOf(r, custom, callback)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(n.profile)
	if err != nil {
		return nil, invalid("metadata", "metadata cannot be stored: %v", err)
	}
	n.node = models.Node{
		ID: r.ID, TeamID: r.TeamID, GroupID: r.GroupID, Version: r.Version,
		Deployment: r.DeploymentType, Registration: strings.ToValidUTF8(string(text), "\uFFFD"),
	}
	n.instance = models.Instance{
		NodeID: r.ID, BaseURL: base, InvocationURL: invocation, Version: r.Version,
		InstanceKey: optional(r.InstanceID), Lifecycle: lifecycleAtStart(r.LifecycleStatus), Health: Unknown,
	}
	return n, nil
}

func checkNames(r *Registration) error {
	r.ID = strings.TrimSpace(r.ID)
	if err := checkName("id", r.ID); err != nil {
		return err
	}
	if r.GroupID == "" {
		r.GroupID = r.ID
	}
	for _, f := range []struct{ field, value string }{
		{"version", r.Version}, {"group_id", r.GroupID}, {"team_id", r.TeamID}, {"instance_id", r.InstanceID},
	} {
		if err := checkText(f.field, f.value); err != nil {
			return err
		}
	}
	switch r.DeploymentType {
	case "":
		r.DeploymentType = LongRunning
	case LongRunning, Serverless:
	default:
		return invalid("deployment_type", "deployment_type must be long_running or serverless, not %q", r.DeploymentType)
	}
	return nil
}

// checkName holds for whatever becomes part of a target or of a path.
func checkName(field, name string) error {
	if name == "" {
		return invalid(field, "%s is required", field)
	}
	if strings.ContainsAny(name, `./\`) {
		return invalid(field, "%s must not contain dots or slashes: %q", field, shorten(name))
	}
	return checkText(field, name)
}

func checkText(field, value string) error {
	if len(value) > maxName {
		return invalid(field, "%s is longer than %d bytes", field, maxName)
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return invalid(field, "%s must be UTF-8 text without control characters", field)
	}
	return nil
}

func (s *Service) checkFunctions(r Registration, custom customMetadata) ([]models.Function, error) {
	if len(r.Reasoners)+len(r.Skills) > maxFunctions {
		return nil, invalid("reasoners", "a node may have at most %d functions", maxFunctions)
	}
	var functions []models.Function
	at := map[string]int{}
	add := func(kind string, entries []FunctionEntry) error {
		for i, entry := range entries {
			f, err := s.checkFunction(kind+"s["+strconv.Itoa(i)+"]", entry)
			if err != nil {
				return err
			}
			f.NodeID, f.Kind = r.ID, kind
			if f.Description == "" {
				f.Description = cleanText(custom.Descriptions[f.Name])
			}
			where, known := at[f.Name]
			switch {
			case !known:
				at[f.Name] = len(functions)
				f.Position = len(functions)
				functions = append(functions, f)
			case functions[where].Kind == kind: // listed twice: the later one counts
				f.Position = where
				functions[where] = f
			}
			// Otherwise a skill has the name of a reasoner; names are looked up among the reasoners first.
		}
		return nil
	}
	if err := add(Reasoner, r.Reasoners); err != nil {
		return nil, err
	}
	if err := add(Skill, r.Skills); err != nil {
		return nil, err
	}
	return functions, nil
}

func (s *Service) checkFunction(field string, entry FunctionEntry) (models.Function, error) {
	name := strings.TrimSpace(entry.ID)
	if err := checkName(field+".id", name); err != nil {
		return models.Function{}, err
	}
	input, err := s.checkSchema(field+".input_schema", name, entry.InputSchema)
	if err != nil {
		return models.Function{}, err
	}
	if input != nil {
		if err := s.schemas.get(*input).compile(); err != nil {
			return models.Function{}, invalid(field+".input_schema", "the input schema of function %s does not compile: %v", name, err)
		}
	}
	output, err := s.checkSchema(field+".output_schema", name, entry.OutputSchema)
	if err != nil {
		return models.Function{}, err
	}
	tags := entry.Tags
	if len(tags) == 0 {
		tags = entry.ProposedTags
	}
	if entry.Idempotent && !slices.Contains(tags, tagIdempotent) {
		tags = append(slices.Clone(tags), tagIdempotent)
	}
	return models.Function{
		Name: name, Description: cleanText(entry.Description), InputSchema: input, OutputSchema: output, Tags: listText(tags),
	}, nil
}

// checkSchema returns the schema as compact text, nil when there is none to check against.
func (s *Service) checkSchema(field, name string, raw json.RawMessage) (*string, error) {
	if len(raw) > maxSchema {
		return nil, invalid(field, "a schema of function %s is larger than %d KiB", name, maxSchema>>10)
	}
	text := compact(raw)
	switch text {
	case "", "null", "{}", "true":
		return nil, nil //nolint:nilnil // no schema is an ordinary answer
	}
	return &text, nil
}

func (s *Service) profileOf(r Registration, custom customMetadata, callback *CallbackDiscovery) (profile, error) {
	if len(r.Metadata)+len(r.Features)+len(r.CommunicationConfig) > maxMetadata {
		return profile{}, invalid("metadata", "metadata, features and communication_config are larger than %d KiB together", maxMetadata>>10)
	}
	p := profile{
		TrafficWeight: 100,
		Communication: objectOnly(r.CommunicationConfig),
		Features:      objectOnly(r.Features),
		Metadata:      withCallback(objectOnly(r.Metadata), callback),
		Tags:          cleanList(r.ProposedTags),
		HeartbeatMs:   heartbeatOf(r.CommunicationConfig).Milliseconds(),
	}
	if r.TrafficWeight != nil {
		p.TrafficWeight = *r.TrafficWeight
	}
	p.MaxConcurrency = s.o.DefaultConcurrency
	if custom.MaxConcurrency > 0 {
		p.MaxConcurrency = custom.MaxConcurrency
	}
	p.HealthPath, p.HealthEveryMs = custom.HealthPath, custom.HealthEveryMs
	p.Functions = map[string]functionProfile{}
	for _, entry := range append(append([]FunctionEntry{}, r.Skills...), r.Reasoners...) { // a reasoner wins over a skill of its name
		proposed := entry.ProposedTags
		if len(proposed) == 0 {
			proposed = entry.Tags
		}
		name := strings.TrimSpace(entry.ID)
		p.Functions[name] = functionProfile{
			MemoryConfig: objectOnly(entry.MemoryConfig), ProposedTags: cleanList(proposed), ApprovedTags: cleanList(entry.ApprovedTags),
			AcceptsWebhook: string(entry.AcceptsWebhook),
		}
	}
	return p, nil
}

// customMetadata is what the server reads of metadata.custom.
type customMetadata struct {
	Descriptions   map[string]string
	Examples       map[string]json.RawMessage
	MaxConcurrency int
	HealthPath     string // where the node wants to be asked for its health; empty: it does not
	HealthEveryMs  int64
}

// customOf reads each key by itself, so that a surprising shape of one does not hide the others.
func customOf(metadata json.RawMessage) customMetadata {
	var m struct {
		Custom map[string]json.RawMessage `json:"custom"`
	}
	var c customMetadata
	if json.Unmarshal(metadata, &m) != nil {
		return c
	}
	read := func(key string, into any) bool { return json.Unmarshal(m.Custom[key], into) == nil }
	if !read("descriptions", &c.Descriptions) {
		c.Descriptions = nil
	}
	if !read("examples", &c.Examples) {
		c.Examples = nil
	}
	var limit Word
	if read("max_concurrency", &limit) {
		if n, err := strconv.ParseFloat(string(limit), 64); err == nil && n >= 1 && n <= 1e6 {
			c.MaxConcurrency = int(n)
		}
	}
	var check struct {
		Path  string `json:"path"`
		Every Word   `json:"interval_seconds"`
	}
	if read("health_check", &check) {
		c.HealthPath, c.HealthEveryMs = healthCheckOf(check.Path, string(check.Every))
	}
	return c
}

// healthCheckOf reads what a node asks for: a path of its own, /health if it names none, and every how many seconds (1 to 3600, 10 if it
// does not say). A path that is none is no reason to refuse the registration.
func healthCheckOf(path, seconds string) (string, int64) {
	every := 10.0
	if n, err := strconv.ParseFloat(seconds, 64); err == nil {
		every = min(max(n, 1), 3600)
	}
	if u, err := url.Parse(path); path == "" || err != nil || u.Host != "" || !strings.HasPrefix(u.Path, "/") || len(path) > maxName {
		path = "/health"
	}
	return path, int64(every * 1000)
}

// withCallback notes the decision about the address as metadata.custom.callback_discovery (wire.md 3.1, rule 9).
func withCallback(metadata json.RawMessage, callback *CallbackDiscovery) json.RawMessage {
	if callback == nil {
		return metadata
	}
	outer, custom := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if json.Unmarshal(metadata, &outer) != nil || outer == nil {
		outer = map[string]json.RawMessage{}
	}
	if json.Unmarshal(outer["custom"], &custom) != nil || custom == nil {
		custom = map[string]json.RawMessage{}
	}
	custom["callback_discovery"] = mustJSON(callback)
	outer["custom"] = mustJSON(custom)
	return mustJSON(outer)
}

// mustJSON is for values made of checked parts; there is no way for them to fail.
func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("{}")
	}
	return text
}

func lifecycleAtStart(word string) string {
	switch word = strings.ToLower(strings.TrimSpace(word)); word {
	case Ready, Degraded:
		return word
	default:
		return Starting
	}
}

// objectOnly keeps a JSON object and drops everything else: null, nothing, or a shape that no reader expects.
func objectOnly(raw json.RawMessage) json.RawMessage {
	text := compact(raw)
	if !strings.HasPrefix(text, "{") {
		return nil
	}
	return json.RawMessage(text)
}

// compact removes white space and whatever is not UTF-8; PostgreSQL would refuse the latter.
func compact(raw json.RawMessage) string {
	var out bytes.Buffer
	if json.Compact(&out, bytes.ToValidUTF8(raw, []byte("\uFFFD"))) != nil {
		return ""
	}
	return out.String()
}

// cleanText makes a text storable on both engines.
func cleanText(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func cleanList(list []string) []string {
	out := make([]string, 0, len(list))
	for _, item := range list {
		if item = cleanText(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

func listText(list []string) string { return string(mustJSON(cleanList(list))) }

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// shorten keeps error messages readable when names are absurd.
func shorten(text string) string {
	if len(text) <= 80 {
		return text
	}
	return strings.ToValidUTF8(text[:80], "") + "…"
}
