package workflow

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/agentfield/agentfield/models"
)

// svgStyle is for light and dark surroundings; the file needs nothing else and runs nothing.
const svgStyle = `text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#111827}.s{fill:#6b7280;font-size:11px}
.b{fill:#fff;stroke:#d1d5db}.e{fill:none;stroke:#9ca3af;stroke-width:1.5}.q{stroke-dasharray:2 4}
@media(prefers-color-scheme:dark){text{fill:#f3f4f6}.s{fill:#9ca3af}.b{fill:#1f2937;stroke:#4b5563}.e{stroke:#6b7280}}`

// SVG writes a picture as a file of its own, without scripts.
func SVG(p *models.Picture, title string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`, p.Width, p.Height, p.Width, p.Height)
	fmt.Fprintf(&b, "<title>%s</title><style>%s", xmlText(title), svgStyle)
	for _, status := range models.Statuses {
		fmt.Fprintf(&b, ".%s{fill:%s}", status, inks[status])
	}
	b.WriteString("</style>")
	for _, line := range []struct{ class, path string }{{"e", p.Edges}, {"e q", p.Sequence}} {
		if line.path != "" {
			fmt.Fprintf(&b, `<path class="%s" d="%s"/>`, line.class, line.path)
		}
	}
	for _, line := range []struct{ colour, path string }{{inks[models.Waiting], p.Blocked}, {inks[models.Failed], p.Failure}} {
		if line.path != "" {
			fmt.Fprintf(&b, `<path class="e" style="stroke:%s;stroke-width:2.5" d="%s"/>`, line.colour, line.path)
		}
	}
	for i := range p.Items {
		svgItem(&b, &p.Items[i])
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func svgItem(b *strings.Builder, item *models.Item) {
	title, below := itemWords(item)
	fmt.Fprintf(b, `<g transform="translate(%d %d)"><title>%s, %s</title>`, item.X, item.Y, xmlText(title), xmlText(below))
	if item.Kind == models.ItemStack {
		fmt.Fprintf(b, `<rect class="b" x="4" y="4" width="%d" height="%d" rx="6"/>`, models.ItemWidth, models.ItemHeight)
	}
	fmt.Fprintf(b, `<rect class="b" width="%d" height="%d" rx="6"/>`, models.ItemWidth, models.ItemHeight)
	if len(item.Counts) > 0 {
		status := item.Counts[0].Status
		if item.Step != nil {
			status = item.Step.Status
		}
		fmt.Fprintf(b, `<rect class="%s" width="4" height="%d" rx="2"/>`, status, models.ItemHeight)
	}
	fmt.Fprintf(b, `<text x="12" y="18">%s</text><text class="s" x="12" y="35">%s</text>`, xmlText(short(title, 23)), xmlText(short(below, 26)))
	if item.Hidden > 0 && item.Kind == models.ItemStep {
		fmt.Fprintf(b, `<text class="s" x="%d" y="26">+%d</text>`, models.ItemWidth+8, item.Hidden)
	}
	b.WriteString("</g>")
}

func itemWords(item *models.Item) (title, below string) {
	switch item.Kind {
	case models.ItemStep:
		return item.Name, string(item.Step.Status) + " · " + item.Node
	case models.ItemStack:
		return fmt.Sprintf("×%d %s", item.Count, item.Name), countItem(item)
	case models.ItemRest:
		return fmt.Sprintf("%d more", item.Count), countItem(item)
	case models.ItemOrphans:
		return "parent not recorded", fmt.Sprintf("%d executions", item.Children)
	}
	return "", ""
}

func countItem(item *models.Item) string {
	counts := make(map[models.Status]int, len(item.Counts))
	for _, c := range item.Counts {
		counts[c.Status] = c.Count
	}
	return count(counts)
}

// xmlText writes a text as XML, without what XML cannot have.
func xmlText(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(oneLine(s))); err != nil { // a strings.Builder takes everything
		return ""
	}
	return b.String()
}
