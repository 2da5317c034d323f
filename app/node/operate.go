package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// This file is what operators do to nodes. Every act is one transaction with its audit entry, and changes nothing when there is nothing
// to change.

var (
	// ErrUnknownInstance says that the node has no instance of that id.
	ErrUnknownInstance = errors.New("the node has no such instance: look at its page for those it has")
	// ErrStillUp says that a node cannot be removed.
	ErrStillUp = errors.New("only a node that is down can be removed: stop its instances first, or drain them")
)

// Drain keeps new calls from one instance of a node, or from all it has now when instanceID is empty. What they have begun they finish,
// and copies that register later take over. It returns how many instances were not draining before.
func (s *Service) Drain(ctx context.Context, who audit.Origin, nodeID, instanceID string) (int, error) {
	now := s.db.NowMs()
	return s.mark(ctx, who, nodeID, instanceID, "drained", &now)
}

// Resume gives an instance calls again, or all of a node.
func (s *Service) Resume(ctx context.Context, who audit.Origin, nodeID, instanceID string) (int, error) {
	n, err := s.mark(ctx, who, nodeID, instanceID, "resumed", nil)
	if err == nil && n > 0 {
		s.o.OnAvailable(nodeID)
	}
	return n, err
}

func (s *Service) mark(ctx context.Context, who audit.Origin, nodeID, instanceID, word string, since *int64) (int, error) {
	changed := 0
	err := s.operate(ctx, nodeID, func(tx *database.Tx) (*change, error) {
		changed = 0
		known, err := readInstances(ctx, tx, nodeID)
		if err != nil {
			return nil, err
		}
		if instanceID != "" && !slices.ContainsFunc(known, func(i models.Instance) bool { return i.ID == instanceID }) {
			return nil, ErrUnknownInstance
		}
		n, err := tx.Exec(ctx, `UPDATE instances SET draining_since = $1 WHERE node_id = $2 AND ($3 = '' OR id = $3)
			AND (draining_since IS NULL) = $4`, since, nodeID, instanceID, since != nil)
		if err != nil || n == 0 {
			return nil, err
		}
		changed = int(n)
		object := nodeID
		if instanceID != "" {
			object += "/" + instanceID
		}
		return &change{Change: word, InstanceID: instanceID}, s.entryOf(ctx, tx, who, "node."+word, object, nil, map[string]int{"instances": changed})
	})
	return changed, err
}

// Remove forgets a node that is down, with its functions and instances. Its executions stay.
func (s *Service) Remove(ctx context.Context, who audit.Origin, nodeID string) error {
	err := s.operate(ctx, nodeID, func(tx *database.Tx) (*change, error) {
		known, err := readInstances(ctx, tx, nodeID)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(known, func(i models.Instance) bool { return i.Lifecycle != Offline && i.Health != Inactive }) {
			return nil, ErrStillUp
		}
		for _, statement := range []string{
			"DELETE FROM instances WHERE node_id = $1", "DELETE FROM functions WHERE node_id = $1", "DELETE FROM node_queues WHERE node_id = $1",
			"DELETE FROM function_queues WHERE node_id = $1",
			"DELETE FROM nodes WHERE id = $1",
		} {
			if _, err := tx.Exec(ctx, statement, nodeID); err != nil {
				return nil, err
			}
		}
		return &change{Change: "removed"}, s.entryOf(ctx, tx, who, "node.removed", nodeID, nil, nil)
	})
	if err == nil {
		s.shelves.Delete(nodeID)
	}
	return err
}

// operate is alter for somebody who named the node: ErrUnknownNode when it does not exist.
func (s *Service) operate(ctx context.Context, nodeID string, act func(tx *database.Tx) (*change, error)) error {
	known := false
	_, err := s.alter(ctx, nodeID, func(tx *database.Tx) (*change, error) {
		known = true
		return act(tx)
	})
	if err == nil && !known {
		return ErrUnknownNode
	}
	return err
}

func (s *Service) entryOf(ctx context.Context, tx *database.Tx, who audit.Origin, action, object string, before, after any) error {
	err := audit.Append(ctx, tx, audit.Entry{Origin: who, At: s.db.NowMs(), Action: action, ObjectKind: "node", Object: object, Before: before, After: after})
	if err != nil {
		return fmt.Errorf("record what was done to a node: %w", err)
	}
	return nil
}
