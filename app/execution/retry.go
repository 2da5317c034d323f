package execution

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/agentfield/agentfield/app/lease"
)

// RetryPolicy says what happens after a failed attempt. The zero value is one attempt, and another one only when a replica of ours
// was lost in the middle of the call.
type RetryPolicy struct {
	MaxAttempts int          `json:"max_attempts,omitempty"` // 1 to 20; default 1
	Backoff     RetryBackoff `json:"backoff,omitzero"`
	// On lists what is tried again: error (5xx, 408, 429 and reported failures), client_error (other 4xx), bad_response, unreachable.
	// Default: error, bad_response and unreachable.
	On            []string `json:"on,omitempty"`
	OnReplicaLoss *bool    `json:"on_replica_loss,omitempty"` // default true
}

// RetryBackoff is the pause between attempts: growing by Factor from Initial up to Max.
type RetryBackoff struct {
	InitialMs int64   `json:"initial_ms,omitempty"` // default 1000
	MaxMs     int64   `json:"max_ms,omitempty"`     // default 60000
	Factor    float64 `json:"factor,omitempty"`     // default 2; 1 keeps the pause
}

// UnmarshalJSON reads the object, or one of the words "none", "fixed" and "exponential", or a duration such as "2s".
func (b *RetryBackoff) UnmarshalJSON(data []byte) error {
	var word string
	if json.Unmarshal(data, &word) != nil {
		type plain RetryBackoff
		return json.Unmarshal(data, (*plain)(b))
	}
	switch word {
	case "exponential":
		*b = RetryBackoff{}
	case "fixed":
		*b = RetryBackoff{Factor: 1}
	case "none":
		*b = RetryBackoff{InitialMs: 1, MaxMs: 1, Factor: 1}
	default:
		d, err := time.ParseDuration(word)
		if err != nil || d <= 0 {
			return fmt.Errorf("backoff %q is neither none, fixed, exponential nor a duration such as \"2s\"", word)
		}
		*b = RetryBackoff{InitialMs: max(d.Milliseconds(), 1)}
	}
	return nil
}

// What On may list.
const (
	onError       = "error"
	onClientError = "client_error"
	onBadResponse = "bad_response"
	onUnreachable = "unreachable"
)

var (
	retryWords   = []string{onError, onClientError, onBadResponse, onUnreachable}
	retryDefault = []string{onError, onBadResponse, onUnreachable}
)

var errRetryAttempts = errors.New("retry.max_attempts must lie between 1 and 20")

// Check reports what is wrong with a policy, in a sentence for its author.
func (p RetryPolicy) Check() error {
	if p.MaxAttempts < 0 || p.MaxAttempts > 20 {
		return errRetryAttempts
	}
	for _, word := range p.On {
		if !slices.Contains(retryWords, word) {
			return fmt.Errorf("retry.on does not know %q: use %v", word, retryWords)
		}
	}
	b := p.Backoff
	if b.InitialMs < 0 || b.MaxMs < 0 || b.InitialMs > 86_400_000 || b.MaxMs > 86_400_000 || b.Factor < 0 || b.Factor > 10 {
		return errors.New("retry.backoff: pauses lie between 0 and 86400000 ms, the factor between 0 and 10")
	}
	return nil
}

func (p RetryPolicy) attempts() int { return max(p.MaxAttempts, 1) }

// retries reports whether another attempt follows a failure of this class, after the given number of failures, this one included.
func (p RetryPolicy) retries(class string, failures int) bool {
	on := p.On
	if len(on) == 0 {
		on = retryDefault
	}
	return failures < p.attempts() && slices.Contains(on, class)
}

func (p RetryPolicy) delay(failures int) time.Duration {
	b := lease.Backoff{
		First: time.Duration(p.Backoff.InitialMs) * time.Millisecond, Max: time.Duration(p.Backoff.MaxMs) * time.Millisecond,
		Factor: p.Backoff.Factor, Jitter: 0.1,
	}
	if b.First == 0 {
		b.First = time.Second
	}
	if b.Max == 0 {
		b.Max = time.Minute
	}
	return b.Delay(failures)
}

func (p RetryPolicy) survivesReplicaLoss() bool { return p.OnReplicaLoss == nil || *p.OnReplicaLoss }

func parsePolicy(stored *string) RetryPolicy {
	var p RetryPolicy
	if stored != nil {
		_ = json.Unmarshal([]byte(*stored), &p) // written by us; an unreadable one means the default
	}
	return p
}

// asPolicy is what the row keeps of a policy: nothing when it is the default.
func asPolicy(p RetryPolicy) *string {
	if p.MaxAttempts == 0 && len(p.On) == 0 && p.OnReplicaLoss == nil && p.Backoff == (RetryBackoff{}) {
		return nil
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil
	}
	stored := string(text)
	return &stored
}
