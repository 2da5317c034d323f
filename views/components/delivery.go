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

// answerOf says what came of an attempt: the answer's status, or why there was none.
func answerOf(a *models.WebhookAttempt) string {
	if a.HTTPStatus != nil {
		text := strconv.Itoa(*a.HTTPStatus)
		if words := http.StatusText(*a.HTTPStatus); words != "" {
			text += " " + words
		}
		return text
	}
	if a.ErrorClass != nil {
		switch *a.ErrorClass {
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
	if a.Error != nil {
		return *a.Error
	}
	return "No answer"
}
