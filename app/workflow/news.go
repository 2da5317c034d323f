package workflow

import "github.com/agentfield/agentfield/models"

// News is what has happened in a run after an instant (ms), for those who were away. It is read off the steps: nothing else is asked for.
func News(g *Graph, since int64) models.RunNews {
	n := models.RunNews{Since: since}
	ended := map[models.Status]int{}
	for _, node := range g.Nodes {
		x := node.Step
		if x.CreatedAt > since {
			n.Called++
		}
		if x.WaitingSince != nil && *x.WaitingSince > since {
			n.Waiting++
			n.Asks = first(n.Asks, x)
		}
		if x.FinishedAt != nil && *x.FinishedAt > since {
			ended[x.Status]++
			if node.failed() {
				n.Failed = first(n.Failed, x)
			}
		}
	}
	for _, status := range models.Statuses {
		if ended[status] > 0 {
			n.Ended = append(n.Ended, models.StatusCount{Status: status, Count: ended[status]})
		}
	}
	return n
}

func first(a, b *models.Step) *models.Step {
	if a != nil {
		return a
	}
	return b
}
