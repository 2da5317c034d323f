package models

// User is a person who signs in. The name is the identity: unique, lower case, never given to somebody else.
type User struct {
	Name         string   `gorm:"primaryKey"`
	DisplayName  string   `gorm:"not null"`
	Role         string   `gorm:"not null"`                                  // viewer, reviewer, operator or admin
	Groups       []string `gorm:"not null;column:member_of;serializer:json"` // whom approval policies may name
	PasswordHash string   `gorm:"not null" json:"-"`                         // argon2id in PHC form
	Disabled     bool     `gorm:"not null"`                                  // may not act, but is still named by the record
	CreatedAt    int64    `gorm:"not null;autoCreateTime:false"`             // ms since 1970
	UpdatedAt    int64    `gorm:"not null;autoUpdateTime:false"`             // ms since 1970
	SignedInAt   *int64   // the newest sign-in
}

// Session is one browser that somebody has signed in with. Its id is a secret, so that only the SHA-256 of it is kept.
type Session struct {
	Hash      []byte `gorm:"primaryKey"`
	UserName  string `gorm:"not null"`
	CreatedAt int64  `gorm:"not null;autoCreateTime:false"`
	SeenAt    int64  `gorm:"not null"` // to the minute: it is not written at every request
	ExpiresAt int64  `gorm:"not null"` // whatever happens
	IP        string `gorm:"not null"`
	Browser   string `gorm:"not null"` // what the browser calls itself
}

// APIKey is a credential of a program: af_<id>_<secret>, of which the SHA-256 of the secret is kept.
type APIKey struct {
	ID         string  `gorm:"primaryKey"`
	Name       string  `gorm:"not null"`
	Hash       []byte  `gorm:"not null" json:"-"`
	Scopes     string  `gorm:"not null"` // separated by spaces
	UserName   *string // the person it acts for; nil: a service
	CreatedBy  string  `gorm:"not null"`
	CreatedAt  int64   `gorm:"not null;autoCreateTime:false"`
	ExpiresAt  *int64
	LastUsedAt *int64 // to the minute
	RevokedAt  *int64
}

// SignInLimit counts the attempts to prove an identity, per account and address, and per address.
type SignInLimit struct {
	Subject     string `gorm:"primaryKey"`
	Attempts    int    `gorm:"not null"` // since Since
	Since       int64  `gorm:"not null"`
	Locks       int    `gorm:"not null"` // how often in a row the limit was met; each lock is longer
	LockedUntil int64  `gorm:"not null"`
}

// AuditEntry is something that somebody did, chained to the entry before it. What does not apply is empty.
type AuditEntry struct {
	ID         int64  `gorm:"primaryKey;autoIncrement:false"` // 1, 2, 3 …
	At         int64  `gorm:"not null"`                       // ms since 1970
	Actor      string `gorm:"not null"`                       // user:alice, key:…, local, server
	ActorKind  string `gorm:"not null"`
	Channel    string `gorm:"not null"` // ui, api, cli or server
	Action     string `gorm:"not null"` // user.created, approval.decided, …
	Object     string `gorm:"not null"`
	ObjectKind string `gorm:"not null"`
	Before     string `gorm:"not null"` // small JSON
	After      string `gorm:"not null"` // small JSON
	Reason     string `gorm:"not null"`
	IP         string `gorm:"not null"`
	RequestID  string `gorm:"not null"`
	PrevHash   []byte `gorm:"not null"`
	Hash       []byte `gorm:"not null"`
}

// TableName names the table: it is a log.
func (AuditEntry) TableName() string { return "audit_log" }

// AuditHead is the newest entry of the log, in a row that appending holds.
type AuditHead struct {
	ID   int16  `gorm:"primaryKey;autoIncrement:false"`
	Seq  int64  `gorm:"not null"`
	Hash []byte `gorm:"not null"`
}

// TableName is the one row's.
func (AuditHead) TableName() string { return "audit_head" }
