package workflow

import (
	"slices"
	"strings"

	"github.com/agentfield/agentfield/models"
)

// Matches tells of each node, by its Index, whether a search finds it: it has one of the statuses and each word of the query is part of
// something that it shows. Nil when nothing is searched for.
func (g *Graph) Matches(query string, statuses []models.Status) []bool {
	words := strings.Fields(strings.ToLower(query))
	if len(words) == 0 && len(statuses) == 0 {
		return nil
	}
	found := make([]bool, len(g.Nodes))
	for _, n := range g.Nodes {
		found[n.Index] = (len(statuses) == 0 || slices.Contains(statuses, n.Status)) && n.says(words)
	}
	return found
}
