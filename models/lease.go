package models

// Lease is the part that every table of leased work has in common: which row is due, who holds it and how often it was tried.
// The package lease reads and writes these columns; nobody else does.
type Lease struct {
	Status      string  `gorm:"not null"`
	AvailableAt int64   `gorm:"not null"` // ms since 1970; delayed work lies in the future
	Attempt     int     `gorm:"not null"` // counts up at each claim: with LeaseOwner the fencing token
	MaxAttempts int     `gorm:"not null"`
	LeaseOwner  *string // replicas.id of the holder
}

// Replica is one running control-plane process. Its row is renewed while it lives; leases refer to it.
type Replica struct {
	ID        string `gorm:"primaryKey"`
	Host      string `gorm:"not null"`
	StartedAt int64  `gorm:"not null"`
	ExpiresAt int64  `gorm:"not null"`
}

// Setting is a value that all replicas share, written once and read at start.
type Setting struct {
	Name  string `gorm:"primaryKey"`
	Value []byte `gorm:"not null"`
}
