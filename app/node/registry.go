package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

const (
	refreshEvery = 1500 * time.Millisecond // with the jitter of a loop never more than 2 s
	rereadAfter  = 100 * time.Millisecond  // how often unknown names may ask the database about a known node
	loadTimeout  = 5 * time.Second
)

// shelf is the place of one node in memory. Its entry is replaced as a whole; what counts over registrations stays on the shelf.
type shelf struct {
	generation atomic.Int64 // of the newest known change; an entry of an older one is stale
	current    atomic.Pointer[entry]
	loading    sync.Mutex
	turn       sync.Mutex // held while an instance is chosen
	next       int        // whose turn it is
	inFlight   atomic.Int64
}

// entry is what was true of a node when it was read. Nobody changes it.
type entry struct {
	generation int64
	version    int64 // nodes.updated_at, which grows with every change but a heartbeat
	loadedAt   time.Time
	heartbeat  time.Duration // interval the node told; 0: none
	probed     wish
	functions  map[string]*Function
	instances  []*Instance
}

// wish is how a node has asked to be probed; the zero value: it has not.
type wish struct {
	path  string
	every time.Duration
}

func (e *entry) instance(id string) *Instance {
	for _, i := range e.instances {
		if i.ID == id {
			return i
		}
	}
	return nil
}

// entry returns what is known of a node, from memory when it is current. Fails with ErrUnknownNode.
func (s *Service) entry(ctx context.Context, nodeID string) (*shelf, *entry, error) {
	if held, ok := s.shelves.Load(nodeID); ok {
		sh := held.(*shelf)
		if e := sh.current.Load(); e != nil && e.generation == sh.generation.Load() {
			return sh, e, nil
		}
	}
	held, _ := s.shelves.LoadOrStore(nodeID, &shelf{})
	sh := held.(*shelf)
	e, err := s.load(ctx, nodeID, sh, sh.current.Load())
	return sh, e, err
}

// entryNow is for callers without a context of their own.
func (s *Service) entryNow(nodeID string) (*shelf, *entry, error) {
	if held, ok := s.shelves.Load(nodeID); ok {
		sh := held.(*shelf)
		if e := sh.current.Load(); e != nil && e.generation == sh.generation.Load() {
			return sh, e, nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	return s.entry(ctx, nodeID)
}

// load reads the node again, unless somebody else has done so since old was taken. While the database is away the old entry serves on.
func (s *Service) load(ctx context.Context, nodeID string, sh *shelf, old *entry) (*entry, error) {
	sh.loading.Lock()
	defer sh.loading.Unlock()
	generation := sh.generation.Load()
	if e := sh.current.Load(); e != nil && e != old && e.generation == generation {
		return e, nil
	}
	e, err := s.fetch(ctx, nodeID)
	if errors.Is(err, ErrUnknownNode) {
		s.shelves.CompareAndDelete(nodeID, sh)
		return nil, err
	}
	if err != nil {
		if old != nil {
			s.log.Warn("cannot read a node again; going on with what is known", "node", nodeID, "error", err)
			return old, nil
		}
		return nil, err
	}
	e.generation = generation
	previous := sh.current.Swap(e)
	s.pulses.forget(previous, e)
	return e, nil
}

// fetch reads the version first: when something changes in between, the entry looks older than it is and is read again.
func (s *Service) fetch(ctx context.Context, nodeID string) (*entry, error) {
	e := &entry{loadedAt: time.Now(), functions: map[string]*Function{}}
	var deployment, registration string
	err := s.db.QueryRow(ctx, "SELECT updated_at, deployment, registration FROM nodes WHERE id = $1", []any{nodeID},
		&e.version, &deployment, &registration)
	if errors.Is(err, database.ErrNoRows) {
		return nil, ErrUnknownNode
	}
	if err != nil {
		return nil, fmt.Errorf("read node %s: %w", nodeID, err)
	}
	p := readProfile(registration)
	e.heartbeat = time.Duration(p.HeartbeatMs) * time.Millisecond
	e.probed = wish{path: p.HealthPath, every: time.Duration(p.HealthEveryMs) * time.Millisecond}
	if err := s.fetchFunctions(ctx, nodeID, e); err != nil {
		return nil, fmt.Errorf("read the functions of node %s: %w", nodeID, err)
	}
	var rows []models.Instance
	if err := s.db.Gorm(ctx).Where("node_id = ?", nodeID).Order("registered_at, id").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read the instances of node %s: %w", nodeID, err)
	}
	for _, row := range rows {
		e.instances = append(e.instances, s.instanceOf(row, deployment, e.probed))
	}
	return e, nil
}

func (s *Service) fetchFunctions(ctx context.Context, nodeID string, e *entry) error {
	rows, err := s.db.Query(ctx, `SELECT f.name, f.kind, f.input_schema, f.tags,
		coalesce(q.max_concurrency, 0) + coalesce(q.max_per_minute, 0) + coalesce(l.max_concurrency, 0) + coalesce(l.max_per_minute, 0) > 0,
		coalesce(q.max_depth, 0), coalesce(l.max_depth, 0)
		FROM functions f LEFT JOIN node_queues q ON q.node_id = f.node_id
		LEFT JOIN function_queues l ON l.node_id = f.node_id AND l.function = f.name WHERE f.node_id = $1`, nodeID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		f := &Function{NodeID: nodeID}
		var text *string
		var tags string
		if err := rows.Scan(&f.Name, &f.Kind, &text, &tags, &f.Limited, &f.NodeDepth, &f.Depth); err != nil {
			return err
		}
		f.Idempotent = slices.Contains(tagsOf(tags), tagIdempotent)
		if text != nil {
			f.schema = s.schemas.get(*text)
		}
		e.functions[f.Name] = f
	}
	return rows.Err()
}

// invalidate makes the next reader ask the database.
func (s *Service) invalidate(nodeID string) {
	if held, ok := s.shelves.Load(nodeID); ok {
		held.(*shelf).generation.Add(1)
	}
}

// mayBeStale: on SQLite every change passes through this process; on PostgreSQL the news of another replica may still be under way.
func (s *Service) mayBeStale(e *entry) bool {
	return s.db.Postgres() && time.Since(e.loadedAt) > rereadAfter
}

// refresh reads again what other replicas have changed without our hearing of it.
func (s *Service) refresh(ctx context.Context) (bool, error) {
	versions, err := s.versions(ctx)
	if err != nil {
		return false, err
	}
	s.shelves.Range(func(id, held any) bool {
		sh := held.(*shelf)
		if e := sh.current.Load(); e != nil && e.version != versions[id.(string)] {
			sh.generation.Add(1)
		}
		return true
	})
	return false, nil
}

func (s *Service) versions(ctx context.Context) (map[string]int64, error) {
	rows, err := s.db.Query(ctx, "SELECT id, updated_at FROM nodes")
	if err != nil {
		return nil, fmt.Errorf("read the versions of the nodes: %w", err)
	}
	defer rows.Close()
	versions := map[string]int64{}
	for rows.Next() {
		var id string
		var version int64
		if err := rows.Scan(&id, &version); err != nil {
			return nil, fmt.Errorf("read the version of a node: %w", err)
		}
		versions[id] = version
	}
	return versions, rows.Err()
}
