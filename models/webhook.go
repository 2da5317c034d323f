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
	ID            string `gorm:"primaryKey"` // the webhook-id, the same over all attempts
	ExecutionID   string `gorm:"not null"`
	Event         string `gorm:"not null"` // execution.completed or execution.failed
	URL           string `gorm:"not null"`
	Lease         `gorm:"embedded"`
	LastStatus    *int // HTTP status of the last attempt
	LastError     *string
	LastClass     *string // of the last attempt: 2xx, 3xx, 4xx, 5xx, or the class of its error; nil before the first
	LastLatencyMs *int64  // of the last attempt
	CreatedAt     int64   `gorm:"not null;autoCreateTime:false"`
	DeliveredAt   *int64
}

// State is how far the delivery has come: delivered, failed, pending until its first attempt has ended, and retrying from then on.
func (d *WebhookDelivery) State() string {
	switch {
	case d.Status == "delivered" || d.Status == "failed":
		return d.Status
	case d.LastClass == nil:
		return "pending"
	}
	return "retrying"
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
