package execution

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentfield/agentfield/models"
)

// Counters tell what this replica has done since it started.
type Counters struct {
	accepted, succeeded, failed, timedOut, cancelled, retried atomic.Int64
	fenced, reaped, refused                                   atomic.Int64
}

func (c *Counters) submitted(*models.Execution) { c.accepted.Add(1) }

func (c *Counters) count(row *models.Execution) {
	switch row.Status {
	case models.Succeeded:
		c.succeeded.Add(1)
	case models.Failed:
		c.failed.Add(1)
	case models.Timeout:
		c.timedOut.Add(1)
	case models.Cancelled:
		c.cancelled.Add(1)
	case models.Queued:
		c.retried.Add(1)
	case models.Pending, models.Running, models.Waiting, models.Paused:
	}
}

// Refused counts a submission that was turned away for lack of room.
func (s *Service) Refused() { s.counters.refused.Add(1) }

// Collectors are the metrics of this package, for the registry of the process.
func (s *Service) Collectors() []prometheus.Collector {
	counter := func(name, help string, labels prometheus.Labels, v *atomic.Int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "agentfield_" + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(v.Load()) })
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "agentfield_" + name, Help: help}, f)
	}
	c := &s.counters
	ended := func(status models.Status, v *atomic.Int64) prometheus.Collector {
		return counter("executions_ended_total", "Executions that reached a terminal status.", prometheus.Labels{"status": string(status)}, v)
	}
	return []prometheus.Collector{
		counter("executions_accepted_total", "Executions written down.", nil, &c.accepted),
		ended(models.Succeeded, &c.succeeded), ended(models.Failed, &c.failed), ended(models.Timeout, &c.timedOut), ended(models.Cancelled, &c.cancelled),
		counter("executions_requeued_total", "Moves back to the queue: retries, redeliveries, nodes that came back.", nil, &c.retried),
		counter("executions_fenced_total", "Outcomes that were dropped because the execution had passed on.", nil, &c.fenced),
		counter("executions_reaped_total", "Executions taken over from dead replicas.", nil, &c.reaped),
		counter("executions_refused_total", "Submissions refused because a queue was full.", nil, &c.refused),
		gauge("executions_in_flight", "Calls that this replica has open.", func() float64 { return float64(s.inFlight.count()) }),
		gauge("executions_waiting_in_queue", "Executions that wait for a worker or an instance, as last counted.", func() float64 { return float64(s.gauge.waiting(allQueues)) }),
		gauge("dispatch_workers", "Calls this replica may have open for asynchronous executions.", func() float64 { return float64(s.worker.Slots) }),
	}
}
