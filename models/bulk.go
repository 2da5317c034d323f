package models

// BulkJob is one act on all executions, or runs, that a filter found.
type BulkJob struct {
	ID        string `gorm:"primaryKey"`
	List      string `gorm:"not null"` // executions or runs: what it acts upon
	Action    string `gorm:"not null"` // cancel or rerun
	Query     string `gorm:"not null"` // of the list, as its address has it
	Reason    string `gorm:"not null"`
	Origin    string `gorm:"not null"` // JSON: who asked for it, for the record
	StartedBy string `gorm:"not null"` // the principal
	Total     int    `gorm:"not null"`
	Done      int    `gorm:"not null"`
	Skipped   int    `gorm:"not null"`
	Failed    int    `gorm:"not null"`

	StopAskedAt *int64
	Status      string `gorm:"not null"` // queued, running, done or stopped
	AvailableAt int64  `gorm:"not null"`
	Attempt     int    `gorm:"not null"`
	MaxAttempts int    `gorm:"not null"`
	LeaseOwner  *string
	CreatedAt   int64 `gorm:"not null;autoCreateTime:false"`
	FinishedAt  *int64
}

// Left counts what has not been tried.
func (j *BulkJob) Left() int { return j.Total - j.Done - j.Skipped - j.Failed }

// Over reports whether nothing more will happen.
func (j *BulkJob) Over() bool { return j.FinishedAt != nil }

// BulkItem is one execution, or run, of a job.
type BulkItem struct {
	JobID    string  `gorm:"primaryKey"`
	Position int     `gorm:"primaryKey;autoIncrement:false"`
	ObjectID string  `gorm:"not null"`
	Outcome  *string // done, skipped or failed; nil: not tried yet
	Detail   *string // why
	Made     *string // the execution that a rerun made
	At       *int64
}
