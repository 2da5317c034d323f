package models

// WebhookRegistration is where the end of one execution is to be announced.
type WebhookRegistration struct {
	ExecutionID string  `gorm:"primaryKey"`
	URL         string  `gorm:"not null"`
	Secret      []byte  // sealed; nil when none was given
	Headers     *string // JSON object of the caller's own headers
}

// WebhookDelivery is one announcement on its way. Status is queued, running, delivered or failed.
type WebhookDelivery struct {
	ID          string `gorm:"primaryKey"` // the webhook-id, the same over all attempts
	ExecutionID string `gorm:"not null"`
	Event       string `gorm:"not null"` // execution.completed or execution.failed
	URL         string `gorm:"not null"`
	Lease       `gorm:"embedded"`
	LastStatus  *int // HTTP status of the last attempt
	LastError   *string
	CreatedAt   int64 `gorm:"not null;autoCreateTime:false"`
	DeliveredAt *int64
}

// WebhookAttempt is one try of a delivery, as it was sent and answered.
type WebhookAttempt struct {
	ID           string `gorm:"primaryKey"`
	DeliveryID   string `gorm:"not null"`
	ExecutionID  string `gorm:"not null"`
	Attempt      int    `gorm:"not null"`
	HTTPStatus   *int
	Error        *string
	ErrorClass   *string // timeout, dns, tls, refused, blocked, connection, status
	LatencyMs    int64   `gorm:"not null"`
	ResponseBody *string // first 16 KiB
	At           int64   `gorm:"not null"`
}
