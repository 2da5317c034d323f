// Package given has the agents that the given documents print, byte by byte, and what a program needs around them: the text of the document
// is never touched but by the edits listed here, of the kinds that README.md allows.
package given

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed *.txt
var documents embed.FS

// Agent is a program made of a snippet.
type Agent struct {
	Name   string // of the node
	File   string // with the text of the document
	Where  string // document and lines; empty: written here, in the document's words, because it only describes that agent
	Before string // what the document takes for granted: imports, types, the app
	Edits  []Edit // elisions that have to be filled in
	After  string // what the document leaves out at the end
}

// Edit replaces one elision.
type Edit struct{ Was, Is string }

const decision = `from dataclasses import dataclass
from typing import Literal

@dataclass
class Decision:
    priority: Literal["low", "normal", "high"]
    escalate: bool

`

const sentiment = `from typing import Literal, TypedDict

from agentfield import Agent

app = Agent("support-agent")

class Sentiment(TypedDict):
    sentiment: Literal["calm", "frustrated"]
    confidence: float
    recommendation: Literal["reply", "escalate"]

`

// Agents lists them.
func Agents() []Agent {
	return []Agent{
		{Name: "support-agent", File: "router.txt", Where: "agent-execution-reference 43-53", Before: sentiment, Edits: []Edit{
			{`support.ai(...)`, `support.ai(system="You read the mood of customers.", user=message, schema=Sentiment)`},
		}},
		{Name: "support-agent", File: "triage.txt", Where: "core-architecture 162-188", Before: decision},
		{Name: "customer-support", File: "support.txt", Where: "core-architecture 47-62", Before: decision, Edits: []Edit{
			{`app.ai(...)`, `app.ai(user=ticket, schema=Decision)`},
			{`"sentiment-agent.analyze", ...`, `"sentiment-agent.analyze", text=ticket["message"]`},
		}},
		{
			Name: "my-agent", File: "compose.txt", Where: "core-architecture 253-256", Before: "import os\n\nfrom agentfield import Agent\n\n",
			After: "\n@app.skill()\ndef where() -> str:\n    return app.plane.url\n",
		},
		{Name: "sentiment-agent", File: "sentiment.txt"},
		{Name: "claims-agent", File: "claims.txt"},
	}
}

// Program is the whole file: what the document takes for granted, its text with the edits, what it leaves out.
func (a Agent) Program() (string, error) {
	text, err := documents.ReadFile(a.File)
	if err != nil {
		return "", fmt.Errorf("read the snippet: %w", err)
	}
	program := string(text)
	for _, edit := range a.Edits {
		if strings.Count(program, edit.Was) != 1 || !strings.Contains(edit.Was, "...") {
			return "", fmt.Errorf("%s: %q is not one elision of the document", a.File, edit.Was)
		}
		program = strings.Replace(program, edit.Was, edit.Is, 1)
	}
	if strings.Contains(program, "...") {
		return "", fmt.Errorf("%s has an elision that is not filled in", a.File)
	}
	return a.Before + program + a.After, nil
}
