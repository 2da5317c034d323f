package webhook

import "github.com/prometheus/client_golang/prometheus"

// metrics counts deliveries; the labels have few values, so that no receiver can grow them.
type metrics struct {
	attempts *prometheus.CounterVec // by result: delivered, or the class of the error
	ended    *prometheus.CounterVec // by status: delivered, failed
	seconds  prometheus.Histogram
	putBack  prometheus.Counter
	inFlight prometheus.GaugeFunc
}

func newMetrics(inUse func() int) *metrics {
	return &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentfield_webhook_attempts_total", Help: "Webhook attempts by result: delivered, or the class of the error.",
		}, []string{"result"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentfield_webhook_deliveries_total", Help: "Webhook deliveries that ended, by status.",
		}, []string{"status"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "agentfield_webhook_attempt_seconds", Help: "Time from sending a webhook to its answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		putBack: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "agentfield_webhook_put_back_total", Help: "Webhook deliveries put back because their receiver had enough on its hands, or at shutdown.",
		}),
		inFlight: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "agentfield_webhook_in_flight", Help: "Webhook deliveries that hold a slot.",
		}, func() float64 { return float64(inUse()) }),
	}
}

func (m *metrics) settled(o outcome, status string) {
	result := o.class
	if result == "" {
		result = Delivered
	}
	m.attempts.WithLabelValues(result).Inc()
	m.seconds.Observe(o.took.Seconds())
	if status != Queued {
		m.ended.WithLabelValues(status).Inc()
	}
}

// Collectors are the metrics, for whoever has the registry.
func (s *Service) Collectors() []prometheus.Collector {
	m := s.metrics
	return []prometheus.Collector{m.attempts, m.ended, m.seconds, m.putBack, m.inFlight}
}
