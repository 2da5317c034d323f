package components

import "github.com/agentfield/agentfield/models"

// Look is how a status shows itself: never by colour alone.
type Look struct {
	Family string // class that sets the colours: st-run, st-wait, st-ok, st-bad or st-idle
	Icon   string // symbol of icons.svg
	Label  string
}

// LookOf is the one place that says how each status looks.
func LookOf(s models.Status) Look {
	switch s {
	case models.Pending:
		return Look{"st-idle", "pending", "Pending"}
	case models.Queued:
		return Look{"st-idle", "queued", "Queued"}
	case models.Running:
		return Look{"st-run", "running", "Running"}
	case models.Waiting:
		return Look{"st-wait", "waiting", "Waiting for approval"}
	case models.Paused:
		return Look{"st-idle", "paused", "Paused"}
	case models.Succeeded:
		return Look{"st-ok", "succeeded", "Succeeded"}
	case models.Failed:
		return Look{"st-bad", "failed", "Failed"}
	case models.Timeout:
		return Look{"st-bad", "timeout", "Timed out"}
	case models.Cancelled:
		return Look{"st-idle", "cancelled", "Cancelled"}
	}
	return Look{"st-idle", "info", string(s)}
}

// LookOfDelivery says how a webhook delivery looks. Between two attempts it is queued again: then it is being retried.
func LookOfDelivery(d *models.WebhookDelivery) Look {
	switch {
	case d.Status == "delivered":
		return Look{"st-ok", "succeeded", "Delivered"}
	case d.Status == "failed" && d.StoppedBy != nil:
		return Look{"st-idle", "cancelled", "Stopped"}
	case d.Status == "failed":
		return Look{"st-bad", "cross", "Given up"}
	case d.Held():
		return Look{"st-wait", "paused", "Waiting for host"}
	case d.Attempt > 0 && d.Status == "queued":
		return Look{"st-wait", "retrying", "Retrying"}
	}
	return Look{"st-run", "progress", "On its way"}
}
