package models

// WebhookRegistration is where the end of one execution is to be announced.
type WebhookRegistration struct {
	ExecutionID string  `gorm:"primaryKey"`
	URL         string  `gorm:"not null"`
	Secret      []byte  // sealed; nil when none was given
	Headers     *string // JSON object of the caller's own headers
}

// WebhookEndpoint is an address that is told of events over all executions.
type WebhookEndpoint struct {
	ID             string  `gorm:"primaryKey"`
	Name           string  `gorm:"not null"`
	URL            string  `gorm:"not null"`
	Events         string  `gorm:"not null"` // names, separated by spaces
	Headers        *string // JSON object of names and sealed values
	Secret         []byte  `gorm:"not null" json:"-"` // sealed
	OldSecret      []byte  `json:"-"`                 // sealed; signs beside Secret until OldSecretUntil
	OldSecretUntil *int64
	RotatedAt      *int64
	Enabled        bool   `gorm:"not null"`
	CreatedBy      string `gorm:"not null"`
	CreatedAt      int64  `gorm:"not null;autoCreateTime:false"`
	UpdatedAt      int64  `gorm:"not null;autoUpdateTime:false"`
}

// Overlaps reports whether deliveries are signed with two secrets at this time (ms since 1970).
func (e *WebhookEndpoint) Overlaps(at int64) bool {
	return e.OldSecretUntil != nil && *e.OldSecretUntil > at
}

// WebhookDelivery is one announcement on its way. Status is queued, running, delivered or failed.
type WebhookDelivery struct {
	ID            string  `gorm:"primaryKey"` // the webhook-id, the same over all attempts
	ExecutionID   string  `gorm:"not null"`   // empty: a test event
	EndpointID    string  `gorm:"not null"`   // empty: registered with the execution
	Event         string  `gorm:"not null"`
	Subject       string  `gorm:"not null"` // tells apart what may happen to an execution more than once
	URL           string  `gorm:"not null"`
	Body          *string // what was said when it happened; nil: made of the execution that has ended
	Lease         `gorm:"embedded"`
	Hold          *string // held while its host is paused, released when it may pass to a host that recovers
	StoppedBy     *string // who ended it before its attempts were used up
	LastStatus    *int    // HTTP status of the last attempt
	LastError     *string
	LastClass     *string // of the last attempt: 2xx, 3xx, 4xx, 5xx, or the class of its error; nil before the first
	LastLatencyMs *int64  // of the last attempt
	CreatedAt     int64   `gorm:"not null;autoCreateTime:false"`
	DeliveredAt   *int64
}

// Held reports whether the delivery waits until its host is open again.
func (d *WebhookDelivery) Held() bool { return d.Hold != nil && *d.Hold == "held" }

// State is how far the delivery has come: delivered, failed, held while its host is paused, pending until its first attempt has ended, and
// retrying from then on.
func (d *WebhookDelivery) State() string {
	switch {
	case d.Status == "delivered" || d.Status == "failed":
		return d.Status
	case d.Held():
		return "held"
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
	EndpointID   string `gorm:"not null"` // that of the delivery
	Attempt      int    `gorm:"not null"`
	HTTPStatus   *int
	Error        *string
	ErrorClass   *string // timeout, dns, tls, refused, blocked, connection, status
	LatencyMs    int64   `gorm:"not null"`
	ResponseBody *string // first 16 KiB
	At           int64   `gorm:"not null"`
}

// WebhookHost is a receiver of webhooks, by the name and port in its address.
type WebhookHost struct {
	Host           string `gorm:"primaryKey"`
	State          string `gorm:"not null"` // open, paused, recovering
	Failures       int    `gorm:"not null"` // in a row
	FailingSince   *int64
	LastError      *string
	LastFailedAt   *int64
	LastAnsweredAt *int64
	PausedAt       *int64
	PausedBy       *string // an actor, or server
	Probes         int     `gorm:"not null"` // that failed, in a row
	ProbeAt        *int64  // nil: none, the pause ends by hand
	ReleasedAt     int64   `gorm:"not null"`
}
