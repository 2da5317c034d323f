package runs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/static"
	"github.com/agentfield/agentfield/views/components"
)

// Where the texts of an item begin and end, in px from its left edge.
const (
	textAt  = 36
	textEnd = models.ItemWidth - 8
)

func num(n int) string { return strconv.Itoa(n) }

// place moves an item to where it belongs.
func place(x, y int) string { return "translate(" + num(x) + " " + num(y) + ")" }

// inlined is a symbol of the sprite as part of the page, under its name with "i-" before it: shorter to refer to.
func inlined(name string) string {
	sprite, _, _ := static.Open("icons.svg")
	_, symbol, found := strings.Cut(string(sprite), `<symbol id="`+name+`"`)
	if !found {
		return ""
	}
	symbol, _, _ = strings.Cut(symbol, "</symbol>")
	return `<symbol id="i-` + name + `"` + symbol + "</symbol>"
}

// itemClass are the classes of an item: its colours, its status, and how it stands out.
func (p ShowPage) itemClass(i *models.Item, goal string) string {
	class := "item"
	if i.Step != nil {
		class += " is-" + string(i.Step.Status)
	} else {
		class += " many " + worst(i.Counts)
	}
	if p.onPath(i) {
		class += " on-path"
	}
	if i.ID == goal {
		class += " goal"
	}
	if p.View.filtered() && !i.Match && !p.countsMatch(i) {
		class += " dim"
	}
	return class
}

// countsMatch: a stack stands for members of which the filter may want some.
func (p ShowPage) countsMatch(i *models.Item) bool {
	if i.Step != nil || p.View.Query != "" {
		return false
	}
	return slices.ContainsFunc(i.Counts, func(c models.StatusCount) bool { return slices.Contains(p.View.Statuses, c.Status) })
}

// worst is the family of what should be seen first among many.
func worst(counts []models.StatusCount) string {
	family, rank := "st-ok", 0
	ranks := map[string]int{"st-ok": 0, "st-idle": 1, "st-run": 2, "st-wait": 3, "st-bad": 4}
	for _, c := range counts {
		if f := components.LookOf(c.Status).Family; ranks[f] > rank {
			family, rank = f, ranks[f]
		}
	}
	return family
}

// onPath reports whether an item lies on the path that is drawn.
func (p ShowPage) onPath(i *models.Item) bool {
	switch {
	case p.View.Critical:
		return i.OnCritical
	case p.Picture.Failure != "" || p.Run.Status == models.Failed || p.Run.Status == models.Timeout:
		return i.OnFailure
	case p.Run.FinishedAt == nil:
		return i.OnBlocked
	}
	return false
}

// way is the path that is drawn over the edges, its class, and what it is.
type way struct{ d, class, label string }

func (p ShowPage) way() (w way, ok bool) {
	switch {
	case p.View.Critical:
		return way{p.Picture.Critical, "critical", "Critical path: what the length of the run depends on"}, p.Picture.Critical != ""
	case p.Run.Status == models.Failed || p.Run.Status == models.Timeout:
		return way{p.Picture.Failure, "failure", "Failure path: where it first went wrong"}, p.Picture.Failure != ""
	case p.Run.FinishedAt == nil && p.waits():
		return way{p.Picture.Blocked, "blocked", "Blocked-by path: what the run waits for"}, p.Picture.Blocked != ""
	case p.Run.FinishedAt == nil:
		return way{p.Picture.Blocked, "busy", "Blocked-by path: what the run waits for"}, p.Picture.Blocked != ""
	}
	return way{}, false
}

// waits reports whether the blocked-by path leads to a person.
func (p ShowPage) waits() bool {
	goal := p.goal()
	return slices.ContainsFunc(p.Picture.Items, func(i models.Item) bool {
		return i.ID == goal && slices.ContainsFunc(i.Counts, func(c models.StatusCount) bool { return c.Status == models.Waiting })
	})
}

// goal is the item that the drawn path leads to: where the page looks first.
func (p ShowPage) goal() string {
	goal := ""
	for i := range p.Picture.Items {
		if p.onPath(&p.Picture.Items[i]) {
			goal = p.Picture.Items[i].ID
		}
	}
	return goal
}

// itemHref is where an item leads: a step to its panel, a fold to what it hides.
func (p ShowPage) itemHref(i *models.Item, nodes string) string {
	switch i.Kind {
	case models.ItemStep:
		return nodes + i.ID
	case models.ItemStack, models.ItemRest:
		return p.View.opening(i.Fold).relative()
	case models.ItemOrphans:
	}
	return ""
}

// isExpanded is the word of aria-expanded; empty: nothing hangs below.
func isExpanded(i *models.Item) string {
	switch {
	case i.Step == nil || i.Fold.State == models.FoldClosed && i.Children > 0:
		return "false"
	case i.Children > 0:
		return "true"
	}
	return ""
}

// itemSaid is what a screen reader says of an item.
func itemSaid(i *models.Item, now time.Time) string {
	switch i.Kind {
	case models.ItemStep:
		text := spoken(i.Step, i.Children, now) + ", " + i.Step.NodeID
		if i.ParentUnrecorded {
			text += ", its parent is not recorded"
		}
		return text
	case models.ItemStack:
		return fmt.Sprintf("%s times %s.%s: %s; show them", components.Number(i.Count), i.Node, i.Name, said(i.Counts))
	case models.ItemRest:
		return fmt.Sprintf("%s more: %s; show them", components.Number(i.Count), said(i.Counts))
	case models.ItemOrphans:
		return components.Plural(i.Children, "step") + " whose parent is not recorded"
	}
	return i.Name
}

// widths are about how wide characters are at 12.5 px, in px, in the widest of the usual fonts: what is too short is better than what runs
// over.
var widths = []struct {
	letters string
	px      float64
}{
	{"ijlI.,:;'|! ", 4}, {"frt()[]-·", 5}, {"csz_J", 6.8}, {"kvxy", 7.4}, {"wGHOQDNUCRM", 10}, {"mW@%…", 12.5},
}

const (
	otherLetter = 8
	smaller     = 11 / 12.5 // the second line of an item
)

// fitted is a text cut to a width in px, as near as can be told without measuring.
func fitted(text string, width float64) string {
	if letters(text) <= width {
		return text
	}
	used, runes := letter('…'), []rune(text)
	for i, r := range runes {
		if used += letter(r); used > width {
			return string(runes[:max(i, 1)]) + "…"
		}
	}
	return text
}

// letters is about how wide a text is, in px.
func letters(text string) float64 {
	width := 0.0
	for _, r := range text {
		width += letter(r)
	}
	return width
}

func letter(r rune) float64 {
	for _, w := range widths {
		if strings.ContainsRune(w.letters, r) {
			return w.px
		}
	}
	return otherLetter
}

// nameOf is the first line of an item, beside its badges.
func nameOf(i *models.Item) string {
	room := float64(textEnd - textAt)
	if i.Step != nil {
		room -= badgeRoom(i.Step)
	}
	switch i.Kind {
	case models.ItemRest:
		return fmt.Sprintf("%s more", components.Number(i.Count))
	case models.ItemOrphans:
		return "Parent not recorded"
	case models.ItemStep, models.ItemStack:
	}
	return fitted(i.Name, room)
}

// letterOfBadge is the room of a digit beside a badge, in px.
const letterOfBadge = 9

func badgeRoom(s *models.Step) float64 {
	room := 0.0
	for _, b := range badges(s) {
		room += 15 + float64(letterOfBadge*len(b.text))
	}
	return room
}

// placedBadge is a badge with its place in the item.
type placedBadge struct {
	badge
	x int
}

// placedBadges stand in a row at the right end of the first line.
func placedBadges(s *models.Step) []placedBadge {
	all := badges(s)
	x := models.ItemWidth - 6 - int(badgeRoom(s))
	out := make([]placedBadge, len(all))
	for i, b := range all {
		out[i] = placedBadge{b, x}
		x += 15 + letterOfBadge*len(b.text)
	}
	return out
}

// histogram divides the lower edge of a stack by the statuses of its members, in px.
func histogram(counts []models.StatusCount, width int) []segment {
	all := segments(counts)
	for i := range all {
		all[i].x, all[i].width = px(all[i].x, width), px(all[i].width, width)
	}
	return all
}

func px(share string, of int) string {
	v, _ := strconv.ParseFloat(share[:len(share)-1], 64) // written by percent
	return strconv.FormatFloat(v*float64(of)/100, 'f', 1, 64)
}
