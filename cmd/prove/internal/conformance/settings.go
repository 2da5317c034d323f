package conformance

// Settings of the server that checks change, by the names of its environment.
const (
	nodeDepth         = "AGENTFIELD_NODE_DEPTH="
	serverDepth       = "AGENTFIELD_QUEUE_DEPTH="
	nodeCap           = "AGENTFIELD_NODE_CONCURRENCY="
	workers           = "AGENTFIELD_WORKERS="
	webhookBackoff    = "AGENTFIELD_WEBHOOK_BACKOFF="
	webhookMaxBackoff = "AGENTFIELD_WEBHOOK_MAX_BACKOFF="
)

// commonSettings are those of the common server: webhooks are repeated soon, so that their checks need not wait long.
var commonSettings = []string{webhookBackoff + "200ms"}
