package models

// ExecutionLog is one entry of what an agent logs about an execution.
type ExecutionLog struct {
	ID          int64   `gorm:"primaryKey"`
	ExecutionID string  `gorm:"not null"`
	Seq         int64   `gorm:"not null"` // the agent's own count, or ours where it gives none
	NodeID      string  `gorm:"not null"`
	Level       string  `gorm:"not null"`
	Source      string  `gorm:"not null"` // sdk.runtime, sdk.user or free
	Message     string  `gorm:"not null"`
	More        *string // JSON object of what else the entry says, by the names of the wire
	At          int64   `gorm:"not null"` // ms, by the agent's clock
	RecordedAt  int64   `gorm:"not null"` // ms, by ours: retention counts from it
}

// ExecutionLogBook counts the log of one execution.
type ExecutionLogBook struct {
	ExecutionID string `gorm:"primaryKey"`
	Entries     int64  `gorm:"not null"`
	LastSeq     int64  `gorm:"not null"`
	WrittenAt   int64  `gorm:"not null"`
}

// LastSeen is the newest event that somebody had on the screen when they last looked at an object.
type LastSeen struct {
	Owner    string `gorm:"primaryKey"`
	Kind     string `gorm:"primaryKey"` // execution, run
	ObjectID string `gorm:"primaryKey"`
	EventID  int64  `gorm:"not null"`
	SeenAt   int64  `gorm:"not null"`
}

// TableName keeps the name in the singular: it is not a list of things.
func (LastSeen) TableName() string { return "last_seen" }
