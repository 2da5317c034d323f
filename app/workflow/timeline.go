package workflow

import "github.com/agentfield/agentfield/models"

// Timeline puts the executions of a run on one clock. Executions without spells are told by their rows: queued until they started,
// then running, waiting since they began to wait. now is in ms.
func Timeline(g *Graph, spells Spells, now int64) *models.Timeline {
	t := &models.Timeline{Rows: make([]models.TimelineRow, len(g.Nodes)), Ended: true}
	if len(g.Nodes) == 0 {
		return t
	}
	t.From = g.Nodes[0].CreatedAt
	critical := setOf(Critical(g))
	for i, n := range g.Nodes {
		t.Ended = t.Ended && n.FinishedAt != nil
		t.Span = max(t.Span, n.end(max(now, n.CreatedAt))-t.From)
		t.Rows[i] = models.TimelineRow{Step: n.Step, Depth: n.Depth, Spans: n.spans(spells[n.ID], t.From, now), Critical: critical[n.ID]}
	}
	return t
}

// spans are the stretches between the entries into a status. Clocks of replicas may differ a little: no span ends before it begins.
func (n *Node) spans(spells []Spell, from, now int64) []models.Span {
	if len(spells) == 0 {
		spells = n.spellsOfRow()
	}
	kind, at := models.SpanQueued, n.CreatedAt
	var spans []models.Span
	add := func(until int64) {
		until = max(until, at)
		if k := len(spans) - 1; k >= 0 && spans[k].Kind == kind {
			spans[k].To = until - from
		} else if until > at || k < 0 {
			spans = append(spans, models.Span{Kind: kind, From: at - from, To: until - from})
		}
		at = until
	}
	end := n.end(max(now, n.CreatedAt))
	for _, s := range spells {
		add(min(s.At, end))
		kind = kindOf(s.Status)
	}
	add(end)
	return spans
}

func (n *Node) spellsOfRow() []Spell {
	var spells []Spell
	if n.StartedAt != nil {
		spells = append(spells, Spell{models.Running, *n.StartedAt})
	}
	switch {
	case n.Status == models.Waiting && n.WaitingSince != nil:
		spells = append(spells, Spell{models.Waiting, *n.WaitingSince})
	case n.Status == models.Paused:
		spells = append(spells, Spell{models.Paused, n.since()})
	}
	return spells
}

func kindOf(s models.Status) models.SpanKind {
	switch s { //nolint:exhaustive // the others are not in the middle of a life
	case models.Running:
		return models.SpanRunning
	case models.Waiting:
		return models.SpanWaiting
	case models.Paused:
		return models.SpanPaused
	}
	return models.SpanQueued
}
