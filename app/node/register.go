package node

import (
	"context"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// forgetAfter is how long an instance that is out of rotation stays listed once others have registered.
const forgetAfter = 24 * time.Hour

// Register makes a node, or one more instance of it, or renews what is known. Errors: InvalidError, ErrNotOwner, or the database's.
func (s *Service) Register(ctx context.Context, r Registration, clientIP string) (*Registered, error) {
	n, err := s.check(r, clientIP)
	if err != nil {
		return nil, err
	}
	n.instance.ID = newInstanceID()
	var done outcome
	err = s.db.Tx(ctx, func(tx *database.Tx) (err error) {
		done, err = s.register(ctx, tx, *n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("register node %s: %w", n.node.ID, err)
	}
	if done.refused {
		return nil, ErrNotOwner
	}
	s.registered(ctx, n.node.ID, done)
	return &Registered{
		Success: true, Message: "Node registered successfully", NodeID: n.node.ID, ResolvedBaseURL: n.instance.BaseURL,
		CallbackDiscovery: n.callback, NodeToken: s.Token(n.node.ID), InstanceID: done.instanceID,
	}, nil
}

// outcome is what a registration has led to.
type outcome struct {
	refused    bool
	instanceID string
	replaced   string   // the instance that ran at this address before and has ended
	forgotten  []string // instances that had been out of rotation for long
}

// registered tells those who care, after the commit.
func (s *Service) registered(ctx context.Context, nodeID string, done outcome) {
	ctx = context.WithoutCancel(ctx)
	if done.replaced != "" {
		s.o.OnInstanceLost(ctx, done.replaced, fmt.Sprintf("agent_restart_orphaned: instance %s of node %s was restarted as %s",
			done.replaced, nodeID, done.instanceID))
	}
	for _, id := range done.forgotten {
		s.o.OnInstanceLost(ctx, id, fmt.Sprintf("agent_restart_orphaned: instance %s of node %s has not been reachable for a day", id, nodeID))
	}
	if _, e, err := s.entry(ctx, nodeID); err == nil {
		if i := e.instance(done.instanceID); i != nil {
			i.pulse.reset()
		}
	}
	s.probeLoop.Wake()
	s.o.OnAvailable(nodeID)
}

func (s *Service) register(ctx context.Context, tx *database.Tx, n newcomer) (outcome, error) {
	now := s.db.NowMs()
	n.node.RegisteredAt, n.instance.RegisteredAt, n.instance.HeartbeatAt = now, now, now
	before, err := s.takeNode(ctx, tx, n.node)
	if err != nil {
		return outcome{}, err
	}
	instances, err := readInstances(ctx, tx, n.node.ID)
	if err != nil {
		return outcome{}, err
	}
	at := slices.IndexFunc(instances, func(i models.Instance) bool { return i.BaseURL == n.instance.BaseURL })
	if len(instances) > 0 && at < 0 && !s.o.AllowUnsigned && !s.VerifyToken(n.node.ID, n.token) {
		return outcome{refused: true}, nil
	}
	if err := writeNode(ctx, tx, n.node); err != nil {
		return outcome{}, err
	}
	if err := replaceFunctions(ctx, tx, n.node.ID, n.functions); err != nil {
		return outcome{}, fmt.Errorf("store the functions: %w", err)
	}
	if err := declareQueue(ctx, tx, n.node.ID, before, n.profile.MaxConcurrency); err != nil {
		return outcome{}, fmt.Errorf("store the queue: %w", err)
	}
	done := outcome{}
	if at >= 0 {
		done.instanceID, done.replaced, err = renewInstance(ctx, tx, instances[at], n.instance)
	} else {
		done.instanceID, err = n.instance.ID, insertInstance(ctx, tx, n.instance)
	}
	if err != nil {
		return outcome{}, fmt.Errorf("store the instance: %w", err)
	}
	if done.forgotten, err = forgetOld(ctx, tx, instances, n.instance.BaseURL, now); err != nil {
		return outcome{}, fmt.Errorf("forget old instances: %w", err)
	}
	word := "registered"
	if done.replaced != "" {
		word = "restarted"
	}
	return done, s.record(ctx, tx, n.node.ID, &change{
		Change: word, InstanceID: done.instanceID, Replaces: done.replaced, BaseURL: n.instance.BaseURL, Version: n.instance.Version,
		Functions: len(n.functions),
	})
}

// takeNode makes sure that the row exists and holds it. It returns the profile of the registration before, nil if there was none.
func (s *Service) takeNode(ctx context.Context, tx *database.Tx, n models.Node) (*profile, error) {
	made, err := tx.Exec(ctx, `INSERT INTO nodes (id, team_id, group_id, version, deployment, registration, registered_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (id) DO NOTHING`,
		n.ID, n.TeamID, n.GroupID, n.Version, n.Deployment, n.Registration, n.RegisteredAt)
	if err != nil {
		return nil, fmt.Errorf("store the node: %w", err)
	}
	if made > 0 {
		return nil, nil //nolint:nilnil // there was no registration before
	}
	if _, err := hold(ctx, tx, n.ID); err != nil {
		return nil, fmt.Errorf("hold the node: %w", err)
	}
	var text string
	if err := tx.QueryRow(ctx, "SELECT registration FROM nodes WHERE id = $1", []any{n.ID}, &text); err != nil {
		return nil, fmt.Errorf("read the node: %w", err)
	}
	before := readProfile(text)
	return &before, nil
}

func writeNode(ctx context.Context, tx *database.Tx, n models.Node) error {
	_, err := tx.Exec(ctx, "UPDATE nodes SET team_id = $2, group_id = $3, version = $4, deployment = $5, registration = $6 WHERE id = $1",
		n.ID, n.TeamID, n.GroupID, n.Version, n.Deployment, n.Registration)
	if err != nil {
		return fmt.Errorf("store the node: %w", err)
	}
	return nil
}

func readInstances(ctx context.Context, tx *database.Tx, nodeID string) ([]models.Instance, error) {
	rows, err := tx.Query(ctx, `SELECT id, base_url, instance_key, lifecycle, health, stopped_at FROM instances WHERE node_id = $1`, nodeID)
	if err != nil {
		return nil, fmt.Errorf("read the instances: %w", err)
	}
	defer rows.Close()
	var instances []models.Instance
	for rows.Next() {
		i := models.Instance{NodeID: nodeID}
		if err := rows.Scan(&i.ID, &i.BaseURL, &i.InstanceKey, &i.Lifecycle, &i.Health, &i.StoppedAt); err != nil {
			return nil, fmt.Errorf("read an instance: %w", err)
		}
		instances = append(instances, i)
	}
	return instances, rows.Err()
}

// renewInstance keeps the row of an instance that registers again. One that has stopped, or whose own instance_id is another now, is a
// new life: it gets a new id, so that nothing bound to the ended one can be taken for its own.
func renewInstance(ctx context.Context, tx *database.Tx, old, fresh models.Instance) (id, replaced string, err error) {
	if old.Lifecycle == Offline || newLife(old.InstanceKey, fresh.InstanceKey) {
		if _, err := tx.Exec(ctx, "DELETE FROM instances WHERE id = $1", old.ID); err != nil {
			return "", "", err
		}
		return fresh.ID, old.ID, insertInstance(ctx, tx, fresh)
	}
	health := old.Health
	if health == Inactive {
		health = Unknown // usable again until a call or a probe says otherwise
	}
	_, err = tx.Exec(ctx, `UPDATE instances SET invocation_url = $2, version = $3, instance_key = coalesce($4, instance_key), lifecycle = $5,
		health = $6, health_reason = NULL, registered_at = $7, heartbeat_at = $7, stopped_at = NULL WHERE id = $1`,
		old.ID, fresh.InvocationURL, fresh.Version, fresh.InstanceKey, fresh.Lifecycle, health, fresh.RegisteredAt)
	return old.ID, "", err
}

func newLife(old, fresh *string) bool { return old != nil && fresh != nil && *old != *fresh }

func insertInstance(ctx context.Context, tx *database.Tx, i models.Instance) error {
	_, err := tx.Exec(ctx, `INSERT INTO instances (id, node_id, base_url, invocation_url, version, instance_key, lifecycle, health,
		health_reason, heartbeats, registered_at, heartbeat_at, stopped_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, $9, $10, $11, NULL)`,
		i.ID, i.NodeID, i.BaseURL, i.InvocationURL, i.Version, i.InstanceKey, i.Lifecycle, i.Health, false, i.RegisteredAt, i.HeartbeatAt)
	return err
}

// forgetOld removes the other instances that have been out of rotation for a day: where addresses are never used twice they would pile up.
func forgetOld(ctx context.Context, tx *database.Tx, instances []models.Instance, keep string, now int64) ([]string, error) {
	var gone []string
	for _, i := range instances {
		out := i.Lifecycle == Offline || i.Health == Inactive
		if i.BaseURL == keep || !out || i.StoppedAt == nil || now-*i.StoppedAt < forgetAfter.Milliseconds() {
			continue
		}
		if _, err := tx.Exec(ctx, "DELETE FROM instances WHERE id = $1", i.ID); err != nil {
			return nil, err
		}
		gone = append(gone, i.ID)
	}
	return gone, nil
}

const insertFunction = `INSERT INTO functions (node_id, name, kind, description, input_schema, output_schema, tags, position)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`

// insertFunctions gives all of them to PostgreSQL in one statement.
const insertFunctions = `INSERT INTO functions (node_id, name, kind, description, input_schema, output_schema, tags, position)
	SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[])`

// replaceFunctions writes only when something is different: agents register again and again with the same functions.
func replaceFunctions(ctx context.Context, tx *database.Tx, nodeID string, functions []models.Function) error {
	stored, err := readFunctions(ctx, tx, nodeID)
	if err != nil {
		return err
	}
	if slices.EqualFunc(stored, functions, sameFunction) {
		return nil
	}
	if _, err := tx.Exec(ctx, "DELETE FROM functions WHERE node_id = $1", nodeID); err != nil {
		return err
	}
	if tx.Postgres() {
		return insertAll(ctx, tx, nodeID, functions)
	}
	for _, f := range functions {
		if _, err := tx.Exec(ctx, insertFunction,
			nodeID, f.Name, f.Kind, f.Description, f.InputSchema, f.OutputSchema, f.Tags, f.Position); err != nil {
			return err
		}
	}
	return nil
}

func insertAll(ctx context.Context, tx *database.Tx, nodeID string, functions []models.Function) error {
	n := len(functions)
	names, kinds, descriptions, tags := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	inputs, outputs, positions := make([]*string, n), make([]*string, n), make([]int32, n)
	for i, f := range functions {
		names[i], kinds[i], descriptions[i], tags[i] = f.Name, f.Kind, f.Description, f.Tags
		inputs[i], outputs[i], positions[i] = f.InputSchema, f.OutputSchema, int32(f.Position) //nolint:gosec // at most a thousand
	}
	_, err := tx.Exec(ctx, insertFunctions, nodeID, names, kinds, descriptions, inputs, outputs, tags, positions)
	return err
}

func readFunctions(ctx context.Context, tx *database.Tx, nodeID string) ([]models.Function, error) {
	rows, err := tx.Query(ctx, `SELECT name, kind, description, input_schema, output_schema, tags, position FROM functions
		WHERE node_id = $1 ORDER BY position`, nodeID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var functions []models.Function
	for rows.Next() {
		var f models.Function
		if err := rows.Scan(&f.Name, &f.Kind, &f.Description, &f.InputSchema, &f.OutputSchema, &f.Tags, &f.Position); err != nil {
			return nil, err
		}
		functions = append(functions, f)
	}
	return functions, rows.Err()
}

func sameFunction(a, b models.Function) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Description == b.Description && a.Tags == b.Tags && a.Position == b.Position &&
		sameText(a.InputSchema, b.InputSchema) && sameText(a.OutputSchema, b.OutputSchema)
}

func sameText(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// declareQueue gives the node its queue. A cap that is still what the last registration asked for follows the new one; any other value was
// set by an operator and stays.
func declareQueue(ctx context.Context, tx *database.Tx, nodeID string, before *profile, limit int) error {
	if _, err := tx.Exec(ctx, `INSERT INTO node_queues (node_id, max_concurrency, max_depth, last_claim_at) VALUES ($1, $2, 0, 0)
		ON CONFLICT (node_id) DO NOTHING`, nodeID, limit); err != nil {
		return err
	}
	if before == nil || before.MaxConcurrency == limit {
		return nil
	}
	_, err := tx.Exec(ctx, "UPDATE node_queues SET max_concurrency = $2 WHERE node_id = $1 AND max_concurrency = $3",
		nodeID, limit, before.MaxConcurrency)
	return err
}

// idText writes bytes as text that sorts like them.
var idText = base32.HexEncoding.WithPadding(base32.NoPadding)

func newInstanceID() string {
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.New()
	}
	return "inst_" + strings.ToLower(idText.EncodeToString(id[:]))
}
