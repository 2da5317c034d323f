package models

// Memory is one value that agents share.
type Memory struct {
	Scope     string  `gorm:"primaryKey"` // workflow, session, actor, global
	ScopeID   string  `gorm:"primaryKey"`
	Key       string  `gorm:"primaryKey"`
	Data      string  `gorm:"not null"` // JSON
	Version   int64   `gorm:"not null"` // 1 for the first, one more with each write
	NodeID    *string // who wrote last
	CreatedAt int64   `gorm:"not null"` // ms
	UpdatedAt int64   `gorm:"not null"` // ms
}
