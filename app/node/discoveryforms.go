package node

import (
	"encoding/xml"
	"fmt"
)

// The forms of discovery (wire.md 3.4). No form is JSON.
const (
	JSON    = "json"
	Compact = "compact"
	XML     = "xml"
)

// CompactCapabilities is discovery as two plain lists, for callers that only want to know what to call.
type CompactCapabilities struct {
	DiscoveredAt string        `json:"discovered_at"`
	Reasoners    []CompactJSON `json:"reasoners"`
	Skills       []CompactJSON `json:"skills"`
}

// CompactJSON is one function of them.
type CompactJSON struct {
	ID      string   `json:"id"`
	AgentID string   `json:"agent_id"`
	Target  string   `json:"target"`
	Tags    []string `json:"tags,omitempty"`
}

// Compact leaves of the answer what is needed for a call.
func (c *Capabilities) Compact() CompactCapabilities {
	short := CompactCapabilities{DiscoveredAt: c.DiscoveredAt, Reasoners: []CompactJSON{}, Skills: []CompactJSON{}}
	for _, a := range c.Capabilities {
		for _, f := range a.Reasoners {
			short.Reasoners = append(short.Reasoners, CompactJSON{f.ID, a.AgentID, f.InvocationTarget, f.Tags})
		}
		for _, f := range a.Skills {
			short.Skills = append(short.Skills, CompactJSON{f.ID, a.AgentID, f.InvocationTarget, f.Tags})
		}
	}
	return short
}

type discoveryXML struct {
	XMLName      xml.Name   `xml:"discovery"`
	DiscoveredAt string     `xml:"discovered_at,attr"`
	Summary      summaryXML `xml:"summary"`
	Agents       []agentXML `xml:"capabilities>agent"`
}

type summaryXML struct {
	Agents    int `xml:"total_agents,attr"`
	Reasoners int `xml:"total_reasoners,attr"`
	Skills    int `xml:"total_skills,attr"`
}

type agentXML struct {
	ID             string        `xml:"id,attr"`
	BaseURL        string        `xml:"base_url,attr"`
	Version        string        `xml:"version,attr"`
	HealthStatus   string        `xml:"health_status,attr"`
	DeploymentType string        `xml:"deployment_type,attr"`
	LastHeartbeat  string        `xml:"last_heartbeat,attr"`
	Reasoners      []functionXML `xml:"reasoners>reasoner"`
	Skills         []functionXML `xml:"skills>skill"`
}

type functionXML struct {
	ID     string   `xml:"id,attr"`
	Target string   `xml:"target,attr"`
	Tags   []string `xml:"tags>tag"`
}

// XML is the answer as a document.
func (c *Capabilities) XML() ([]byte, error) {
	doc := discoveryXML{
		DiscoveredAt: c.DiscoveredAt, Summary: summaryXML{c.TotalAgents, c.TotalReasoners, c.TotalSkills}, Agents: make([]agentXML, len(c.Capabilities)),
	}
	for i, a := range c.Capabilities {
		doc.Agents[i] = agentXML{
			ID: a.AgentID, BaseURL: a.BaseURL, Version: a.Version, HealthStatus: a.HealthStatus, DeploymentType: a.DeploymentType,
			LastHeartbeat: a.LastHeartbeat, Reasoners: functionsXML(a.Reasoners), Skills: functionsXML(a.Skills),
		}
	}
	text, err := xml.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write discovery as XML: %w", err)
	}
	return append([]byte(xml.Header), text...), nil
}

func functionsXML(found []DiscoveredJSON) []functionXML {
	list := make([]functionXML, len(found))
	for i, f := range found {
		list[i] = functionXML{ID: f.ID, Target: f.InvocationTarget, Tags: f.Tags}
	}
	return list
}
