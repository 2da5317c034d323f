package models

// Node is a registered agent: a name, its functions and the instances that serve it.
type Node struct {
	ID           string `gorm:"primaryKey"`
	TeamID       string `gorm:"not null"`
	GroupID      string `gorm:"not null"`
	Version      string `gorm:"not null"` // of the newest registration
	Deployment   string `gorm:"not null"` // long_running or serverless
	Registration string `gorm:"not null"` // JSON of the newest registration: features, metadata, communication_config, tags
	RegisteredAt int64  `gorm:"not null"`
	UpdatedAt    int64  `gorm:"not null;autoUpdateTime:false"`
}

// Function is one reasoner or skill of a node, with the JSON Schema of its input.
type Function struct {
	NodeID       string `gorm:"primaryKey"`
	Name         string `gorm:"primaryKey"`
	Kind         string `gorm:"not null"` // reasoner or skill
	Description  string `gorm:"not null"`
	InputSchema  *string
	OutputSchema *string
	Tags         string `gorm:"not null"` // JSON array
	Position     int    `gorm:"not null"` // order of registration
}

// Instance is one running copy of a node, reached at one address.
type Instance struct {
	ID            string `gorm:"primaryKey"`
	NodeID        string `gorm:"not null"`
	BaseURL       string `gorm:"not null"`
	InvocationURL *string
	Version       string  `gorm:"not null"`
	InstanceKey   *string // the agent's own instance_id: a new one at the same address means it was restarted
	Lifecycle     string  `gorm:"not null"` // starting, ready, degraded, offline
	Health        string  `gorm:"not null"` // unknown, active, degraded, inactive
	HealthReason  *string
	Heartbeats    bool  `gorm:"not null"` // it sends heartbeats, so missing ones mean something
	RegisteredAt  int64 `gorm:"not null"`
	HeartbeatAt   int64 `gorm:"not null"`
	StoppedAt     *int64
	DrainingSince *int64 // an operator keeps new calls from it since then
}

// NodeQueue is the admission and fairness state of one node, apart from Node because every claim writes it.
type NodeQueue struct {
	NodeID         string  `gorm:"primaryKey"`
	MaxConcurrency int     `gorm:"not null"` // 0: no cap
	MaxDepth       int     `gorm:"not null"` // 0: the server's default
	MaxPerMinute   int     `gorm:"not null"` // executions begun; 0: as many as come
	OpenAt         int64   `gorm:"not null"` // us: when the rate lets the next one begin
	LastClaimAt    int64   `gorm:"not null"`
	ClaimToken     *string // written by releases before 0.2 only
}

// FunctionQueue holds the limits of one function. Functions without a row have none of their own.
type FunctionQueue struct {
	NodeID         string `gorm:"primaryKey"`
	Function       string `gorm:"primaryKey"`
	MaxConcurrency int    `gorm:"not null"`
	MaxDepth       int    `gorm:"not null"`
	MaxPerMinute   int    `gorm:"not null"`
	OpenAt         int64  `gorm:"not null"`
}
