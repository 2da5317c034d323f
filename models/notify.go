package models

// Notification is word of a request for a decision, on its way to the configured address. Status is queued, running, delivered or failed.
type Notification struct {
	ID          string `gorm:"primaryKey"` // the webhook-id, the same over all attempts
	Event       string `gorm:"not null"`   // approval.requested, approval.decided or approval.expired
	ApprovalID  string `gorm:"not null"`
	ExecutionID string `gorm:"not null"`
	Body        string `gorm:"not null"` // as it is sent
	Lease       `gorm:"embedded"`
	LastStatus  *int // HTTP status of the last attempt
	LastError   *string
	CreatedAt   int64 `gorm:"not null;autoCreateTime:false"`
	DeliveredAt *int64
}
