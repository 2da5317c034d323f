package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

const maxBulk = 50

// AgentJSON is a node as the API shows it: the newest registration, and all instances besides.
type AgentJSON struct {
	ID                  string          `json:"id"`
	GroupID             string          `json:"group_id"`
	TeamID              string          `json:"team_id"`
	BaseURL             string          `json:"base_url"`
	Version             string          `json:"version"`
	TrafficWeight       float64         `json:"traffic_weight"`
	DeploymentType      string          `json:"deployment_type"`
	InvocationURL       *string         `json:"invocation_url,omitempty"`
	Reasoners           []FunctionJSON  `json:"reasoners"`
	Skills              []FunctionJSON  `json:"skills"`
	CommunicationConfig json.RawMessage `json:"communication_config"`
	HealthStatus        string          `json:"health_status"`
	LifecycleStatus     string          `json:"lifecycle_status"`
	LastHeartbeat       string          `json:"last_heartbeat"`
	RegisteredAt        string          `json:"registered_at"`
	Features            json.RawMessage `json:"features"`
	Metadata            json.RawMessage `json:"metadata"`
	ProposedTags        []string        `json:"proposed_tags,omitempty"`
	InstanceID          *string         `json:"instance_id,omitempty"`
	Instances           []InstanceJSON  `json:"instances"`
	Limits              *AllLimits      `json:"limits,omitempty"` // of a single node

	lastSeen   int64
	newest     int64 // registration of an instance
	changedAt  int64
	bestHealth string
}

// FunctionJSON is one reasoner or skill in AgentJSON.
type FunctionJSON struct {
	ID             string          `json:"id"`
	Description    string          `json:"description,omitempty"`
	InputSchema    json.RawMessage `json:"input_schema"`
	OutputSchema   json.RawMessage `json:"output_schema,omitempty"`
	MemoryConfig   json.RawMessage `json:"memory_config,omitempty"`
	Tags           []string        `json:"tags"`
	ProposedTags   []string        `json:"proposed_tags,omitempty"`
	ApprovedTags   []string        `json:"approved_tags,omitempty"`
	AcceptsWebhook string          `json:"accepts_webhook,omitempty"`
}

// InstanceJSON is one instance in AgentJSON.
type InstanceJSON struct {
	ID              string  `json:"id"`
	InstanceID      *string `json:"instance_id,omitempty"` // the agent's own word
	BaseURL         string  `json:"base_url"`
	InvocationURL   *string `json:"invocation_url,omitempty"`
	Version         string  `json:"version"`
	LifecycleStatus string  `json:"lifecycle_status"`
	HealthStatus    string  `json:"health_status"`
	HealthReason    *string `json:"health_reason,omitempty"`
	LastHeartbeat   string  `json:"last_heartbeat"`
	RegisteredAt    string  `json:"registered_at"`
	StoppedAt       *string `json:"stopped_at,omitempty"` // out of rotation since
	DrainingSince   *string `json:"draining_since,omitempty"`
	// Resting are the functions whose calls it has failed and that it gets one try of every ten seconds; as this replica sees it.
	Resting  []string `json:"resting,omitempty"`
	InFlight int64    `json:"in_flight"` // calls of this replica
}

// Get returns one node. A version selects among its instances; ErrUnknownNode when none has it.
func (s *Service) Get(ctx context.Context, nodeID, version string) (*AgentJSON, error) {
	found, err := s.read(ctx, s.db.Gorm(ctx).Where("id = ?", nodeID), true)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrUnknownNode
	}
	a := found[0]
	limits, err := s.Limits(ctx, nodeID)
	if err != nil && !errors.Is(err, ErrUnknownNode) {
		return nil, err
	}
	a.Limits = &limits
	if version == "" || version == a.Version {
		return a, nil
	}
	for _, v := range slices.Backward(a.Instances) {
		if chosen := v; chosen.Version == version {
			a.Version, a.BaseURL, a.InvocationURL, a.InstanceID = version, chosen.BaseURL, chosen.InvocationURL, chosen.InstanceID
			a.HealthStatus, a.LifecycleStatus, a.LastHeartbeat = chosen.HealthStatus, chosen.LifecycleStatus, chosen.LastHeartbeat
			return a, nil
		}
	}
	return nil, ErrUnknownNode
}

// ListQuery narrows List. Without Health and ShowAll only active nodes are listed, as the protocol has it.
type ListQuery struct {
	Health  string // health_status
	TeamID  string // team_id
	GroupID string // group_id
	ShowAll bool   // show_all=true
}

// NodeList answers GET /api/v1/nodes.
type NodeList struct {
	Nodes   []*AgentJSON      `json:"nodes"`
	Count   int               `json:"count"`
	Filters map[string]string `json:"filters"`
}

// List returns the nodes that match, newest registration first.
func (s *Service) List(ctx context.Context, q ListQuery) (*NodeList, error) {
	if err := q.complete(); err != nil {
		return nil, err
	}
	list := &NodeList{Nodes: []*AgentJSON{}, Filters: map[string]string{}}
	where := s.db.Gorm(ctx)
	for column, value := range map[string]string{"team_id": q.TeamID, "group_id": q.GroupID} {
		if value != "" {
			where = where.Where(column+" = ?", value)
			list.Filters[column] = value
		}
	}
	if q.Health != "" {
		list.Filters["health_status"] = q.Health
	}
	found, err := s.read(ctx, where, true)
	if err != nil {
		return nil, err
	}
	for _, a := range found {
		if q.Health == "" || q.Health == a.HealthStatus {
			list.Nodes = append(list.Nodes, a)
		}
	}
	list.Count = len(list.Nodes)
	return list, nil
}

func (q *ListQuery) complete() error {
	q.Health = strings.ToLower(strings.TrimSpace(q.Health))
	switch q.Health {
	case "":
		if !q.ShowAll {
			q.Health = Active
		}
	case Active, Inactive, Degraded, Unknown:
	default:
		return invalid("health_status", "health_status must be active, inactive, degraded or unknown, not %q", shorten(q.Health))
	}
	return nil
}

// read assembles nodes from three queries, newest registration first. Schemas are large: without them lists stay cheap.
func (s *Service) read(ctx context.Context, where *gorm.DB, schemas bool) ([]*AgentJSON, error) {
	var nodes []models.Node
	if err := where.Find(&nodes).Error; err != nil {
		return nil, fmt.Errorf("read the nodes: %w", err)
	}
	if len(nodes) == 0 {
		return nil, nil
	}
	var instances []models.Instance
	var functions []models.Function
	columns := []string{"node_id", "name", "kind", "description", "tags", "position"}
	if schemas {
		columns = append(columns, "input_schema", "output_schema")
	}
	ofInstances, ofFunctions := s.db.Gorm(ctx), s.db.Gorm(ctx).Select(columns)
	if len(nodes) == 1 { // a list of ids would be longer than reading all
		ofInstances, ofFunctions = ofInstances.Where("node_id = ?", nodes[0].ID), ofFunctions.Where("node_id = ?", nodes[0].ID)
	}
	if err := ofInstances.Order("node_id, registered_at, id").Find(&instances).Error; err != nil {
		return nil, fmt.Errorf("read the instances: %w", err)
	}
	if err := ofFunctions.Order("node_id, position").Find(&functions).Error; err != nil {
		return nil, fmt.Errorf("read the functions: %w", err)
	}
	return s.assemble(nodes, instances, functions), nil
}

func (s *Service) assemble(nodes []models.Node, instances []models.Instance, functions []models.Function) []*AgentJSON {
	byID := make(map[string]*AgentJSON, len(nodes))
	profiles := make(map[string]profile, len(nodes))
	all := make([]*AgentJSON, 0, len(nodes))
	for _, n := range nodes {
		p := readProfile(n.Registration)
		a := agentOf(n, p)
		byID[n.ID], profiles[n.ID] = a, p
		all = append(all, a)
	}
	for _, row := range instances {
		if a := byID[row.NodeID]; a != nil {
			a.add(row, s.pulses.inFlight(row.ID), slices.Sorted(maps.Keys(s.Resting(row.ID))))
		}
	}
	for _, f := range functions {
		a := byID[f.NodeID]
		if a == nil {
			continue
		}
		shown := functionOf(f, profiles[f.NodeID].Functions[f.Name])
		if f.Kind == Skill {
			a.Skills = append(a.Skills, shown)
		} else {
			a.Reasoners = append(a.Reasoners, shown)
		}
	}
	slices.SortFunc(all, func(a, b *AgentJSON) int {
		if a.newest != b.newest {
			return int(min(max(b.newest-a.newest, -1), 1))
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

func agentOf(n models.Node, p profile) *AgentJSON {
	return &AgentJSON{
		ID: n.ID, GroupID: n.GroupID, TeamID: n.TeamID, Version: n.Version, TrafficWeight: p.TrafficWeight, DeploymentType: n.Deployment,
		Reasoners: []FunctionJSON{}, Skills: []FunctionJSON{},
		CommunicationConfig: orElse(p.Communication, `{"protocols":[],"websocket_endpoint":"","heartbeat_interval":"0s"}`),
		HealthStatus:        Unknown, LifecycleStatus: Offline, RegisteredAt: stamp(n.RegisteredAt),
		Features: orElse(p.Features, "{}"), Metadata: orElse(p.Metadata, "{}"), ProposedTags: p.Tags,
		Instances: []InstanceJSON{}, changedAt: n.UpdatedAt,
	}
}

// add shows one more instance. They come in the order of registration; the node is as well as the best of them.
func (a *AgentJSON) add(row models.Instance, inFlight int64, resting []string) {
	shown := InstanceJSON{
		ID: row.ID, InstanceID: row.InstanceKey, BaseURL: row.BaseURL, InvocationURL: row.InvocationURL, Version: row.Version,
		LifecycleStatus: row.Lifecycle, HealthStatus: row.Health, HealthReason: row.HealthReason,
		LastHeartbeat: stamp(row.HeartbeatAt), RegisteredAt: stamp(row.RegisteredAt), InFlight: inFlight, Resting: resting,
	}
	if row.DrainingSince != nil {
		at := stamp(*row.DrainingSince)
		shown.DrainingSince = &at
	}
	if row.StoppedAt != nil {
		at := stamp(*row.StoppedAt)
		shown.StoppedAt = &at
	}
	a.Instances = append(a.Instances, shown)
	a.BaseURL, a.InvocationURL, a.InstanceID, a.newest = row.BaseURL, row.InvocationURL, row.InstanceKey, row.RegisteredAt
	a.lastSeen = max(a.lastSeen, row.HeartbeatAt)
	a.LastHeartbeat = stamp(a.lastSeen)
	if a.bestHealth == "" || rank(row.Health, row.Lifecycle) < rank(a.HealthStatus, a.LifecycleStatus) {
		a.bestHealth, a.HealthStatus, a.LifecycleStatus = row.Health, row.Health, row.Lifecycle
	}
}

// rank orders the states of instances, the best first.
func rank(health, lifecycle string) int {
	return 10*slices.Index([]string{Active, Degraded, Unknown, Inactive}, health) +
		slices.Index([]string{Ready, Degraded, Starting, Offline}, lifecycle)
}

func functionOf(f models.Function, p functionProfile) FunctionJSON {
	tags := tagsOf(f.Tags)
	shown := FunctionJSON{
		ID: f.Name, Description: f.Description, InputSchema: json.RawMessage("{}"), MemoryConfig: p.MemoryConfig, Tags: tags,
		ProposedTags: p.ProposedTags, ApprovedTags: p.ApprovedTags, AcceptsWebhook: p.AcceptsWebhook,
	}
	if f.InputSchema != nil {
		shown.InputSchema = json.RawMessage(*f.InputSchema)
	}
	if f.OutputSchema != nil {
		shown.OutputSchema = json.RawMessage(*f.OutputSchema)
	}
	return shown
}

func tagsOf(text string) []string {
	tags := []string{}
	_ = json.Unmarshal([]byte(text), &tags) //nolint:errcheck // our own text
	return tags
}

func orElse(raw json.RawMessage, fallback string) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage(fallback)
	}
	return raw
}

// StatusJSON is the presence of a node.
type StatusJSON struct {
	State           string `json:"state"` // starting, active, inactive
	HealthScore     int    `json:"health_score"`
	LastSeen        string `json:"last_seen"`
	LifecycleStatus string `json:"lifecycle_status"`
	HealthStatus    string `json:"health_status"`
	LastUpdated     string `json:"last_updated"`
	Source          string `json:"source"`
}

// StatusReply answers GET …/status.
type StatusReply struct {
	Success bool       `json:"success"`
	NodeID  string     `json:"node_id"`
	Status  StatusJSON `json:"status"`
}

// Status reads the presence of a node.
func (s *Service) Status(ctx context.Context, nodeID string) (*StatusReply, error) {
	a, err := s.Get(ctx, nodeID, "")
	if err != nil {
		return nil, err
	}
	return &StatusReply{Success: true, NodeID: nodeID, Status: a.status()}, nil
}

func (a *AgentJSON) status() StatusJSON {
	state, score := Active, 100
	switch {
	case a.HealthStatus == Inactive || a.LifecycleStatus == Offline:
		state, score = Inactive, 0
	case a.LifecycleStatus == Starting:
		state, score = Starting, 50
	case a.HealthStatus == Degraded || a.LifecycleStatus == Degraded:
		score = 50
	}
	return StatusJSON{
		State: state, HealthScore: score, LastSeen: stamp(a.lastSeen), LifecycleStatus: a.LifecycleStatus, HealthStatus: a.HealthStatus,
		LastUpdated: stamp(a.changedAt), Source: "registry",
	}
}

// Refresh probes every instance of the node now, takes note of the answers and returns the status that later reads agree with.
func (s *Service) Refresh(ctx context.Context, nodeID string) (*StatusReply, error) {
	_, e, err := s.entry(ctx, nodeID)
	if err != nil {
		return nil, err
	}
	s.probeAll(ctx, filter(e.instances, func(i *Instance) bool { return !i.Serverless && i.row.Lifecycle != Offline }))
	for _, i := range e.instances {
		if err := s.writeVerdict(ctx, i); err != nil {
			return nil, err
		}
	}
	return s.Status(ctx, nodeID)
}

// BulkReply answers POST /nodes/status/bulk; with Failed above zero as 207.
type BulkReply struct {
	Success        bool                  `json:"success"`
	TotalRequested int                   `json:"total_requested"`
	Successful     int                   `json:"successful"`
	Failed         int                   `json:"failed"`
	Errors         []string              `json:"errors"`
	Results        map[string]StatusJSON `json:"results"`
}

// BulkStatus reads the presence of up to 50 nodes.
func (s *Service) BulkStatus(ctx context.Context, nodeIDs []string) (*BulkReply, error) {
	if len(nodeIDs) > maxBulk {
		return nil, invalid("node_ids", "at most %d node ids can be asked for at once", maxBulk)
	}
	reply := &BulkReply{TotalRequested: len(nodeIDs), Errors: []string{}, Results: map[string]StatusJSON{}}
	for _, id := range nodeIDs {
		status, err := s.Status(ctx, id)
		if errors.Is(err, ErrUnknownNode) {
			reply.Errors = append(reply.Errors, shorten(cleanText(id))+": node not found")
			continue
		}
		if err != nil {
			return nil, err
		}
		reply.Successful++
		reply.Results[id] = status.Status
	}
	reply.Failed = reply.TotalRequested - reply.Successful
	reply.Success = reply.Failed == 0
	return reply, nil
}

// Stats are the numbers of the registry.
type Stats struct {
	Nodes     int
	Instances map[string]int   // by health; those that are offline count as inactive
	InFlight  map[string]int64 // calls of this replica by node, without idle nodes
}

// Stats counts for the overview and the metrics.
func (s *Service) Stats(ctx context.Context) (Stats, error) {
	stats := Stats{Instances: map[string]int{Active: 0, Degraded: 0, Unknown: 0, Inactive: 0}, InFlight: map[string]int64{}}
	if err := s.db.QueryRow(ctx, "SELECT count(*) FROM nodes", nil, &stats.Nodes); err != nil {
		return Stats{}, fmt.Errorf("count the nodes: %w", err)
	}
	rows, err := s.db.Query(ctx, "SELECT health, count(*) FROM instances GROUP BY health")
	if err != nil {
		return Stats{}, fmt.Errorf("count the instances: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var health string
		var n int
		if err := rows.Scan(&health, &n); err != nil {
			return Stats{}, fmt.Errorf("count the instances: %w", err)
		}
		stats.Instances[health] = n
	}
	s.shelves.Range(func(id, held any) bool {
		if n := held.(*shelf).inFlight.Load(); n > 0 {
			stats.InFlight[id.(string)] = n
		}
		return true
	})
	return stats, rows.Err()
}

// AnyTarget is a function that can be called, for commands that show how; "" while none is registered.
func (s *Service) AnyTarget(ctx context.Context) (string, error) {
	var node, function string
	err := s.db.QueryRow(ctx, `SELECT f.node_id, f.name FROM functions f JOIN nodes n ON n.id = f.node_id
		ORDER BY n.updated_at DESC, f.position LIMIT 1`, nil, &node, &function)
	if errors.Is(err, database.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for a function: %w", err)
	}
	return node + "." + function, nil
}
