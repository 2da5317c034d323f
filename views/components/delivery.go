package components

import (
	"net/http"
	"strconv"

	"github.com/agentfield/agentfield/models"
)

func tried(delivery string, attempts []models.WebhookAttempt) bool {
	for i := range attempts {
		if attempts[i].DeliveryID == delivery {
			return true
		}
	}
	return false
}

// Answer says what came of an attempt: the answer's status, or why there was none.
func Answer(status *int, class, message *string) string {
	if status != nil {
		text := strconv.Itoa(*status)
		if words := http.StatusText(*status); words != "" {
			text += " " + words
		}
		return text
	}
	if class != nil {
		switch *class {
		case "timeout":
			return "No answer in time"
		case "dns":
			return "The host name does not resolve"
		case "tls":
			return "The certificate cannot be trusted"
		case "refused":
			return "Connection refused"
		case "blocked":
			return "The address is not allowed"
		}
	}
	if message != nil {
		return *message
	}
	return "No answer"
}
