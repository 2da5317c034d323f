package webhooks

import (
	"fmt"
	"time"
)

// attempt is a try as the server has it on record.
type attempt struct {
	Number  int       `json:"attempt"`
	Status  *int      `json:"http_status"`
	At      time.Time `json:"timestamp"`
	Latency int64     `json:"latency_ms"`
}

func (a attempt) taken() bool { return a.Status != nil && *a.Status/100 == 2 }

func (a attempt) ended() time.Time { return a.At.Add(time.Duration(a.Latency) * time.Millisecond) }

// delivery is a webhook as the server has it on record, with what arrived under its execution and address.
type delivery struct {
	ID        string    `json:"id"`
	Execution string    `json:"execution_id"`
	URL       string    `json:"url"`
	State     string    `json:"state"`
	Attempts  []attempt `json:"attempts"`
}

// outage is when the server was away.
type outage struct{ from, until time.Time }

// schedule is what the server promises about the pauses between attempts.
type schedule struct {
	first, longest time.Duration
	slack          time.Duration // in which a busy machine may begin what is due
}

// due is the pause after the n-th failure.
func (s schedule) due(n int) time.Duration {
	d := s.first
	for range n - 1 {
		d = min(2*d, s.longest)
	}
	return min(d, s.longest)
}

// verdict counts what was found.
type verdict struct {
	missing, doubled, undelivered int
	brokenLogs                    int // numbers that skip, or an end that is no success
	attempts, failed              int
	unrecorded                    int // arrived while a kill fell between the answer and its record
	pauses, early, late, across   int // across: late because a kill fell into it
	problems                      []string
}

func (v *verdict) note(count *int, format string, args ...any) {
	*count++
	if len(v.problems) < 10 {
		v.problems = append(v.problems, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) good(mostUnrecorded int) bool {
	return v.missing+v.doubled+v.undelivered+v.brokenLogs+v.early+v.late == 0 && v.unrecorded <= mostUnrecorded
}

// judge compares what was to be announced with what is on record and what arrived: ids by execution and address, as often as they came.
func judge(executions, addresses []string, deliveries []delivery, arrived map[string][]string, away []outage, s schedule) verdict {
	var v verdict
	known := map[string][]delivery{}
	for _, d := range deliveries {
		known[d.Execution+" "+d.URL] = append(known[d.Execution+" "+d.URL], d)
	}
	for _, execution := range executions {
		for _, address := range addresses {
			key := execution + " " + address
			switch found := known[key]; {
			case len(found) == 0:
				v.note(&v.missing, "%s was never announced at %s", execution, address)
			case len(found) > 1:
				v.note(&v.doubled, "%s was announced at %s under %d ids", execution, address, len(found))
			default:
				v.one(found[0], arrived[key], away, s)
			}
		}
	}
	return v
}

func (v *verdict) one(d delivery, arrived []string, away []outage, s schedule) {
	if d.State != "delivered" {
		v.note(&v.undelivered, "%s is %s", d.ID, d.State)
	}
	for _, id := range arrived {
		if id != d.ID {
			v.note(&v.doubled, "%s arrived under the id %s", d.ID, id)
		}
	}
	v.attempts += len(d.Attempts)
	v.unrecorded += max(len(arrived)-len(d.Attempts), 0)
	for i, a := range d.Attempts {
		last := i == len(d.Attempts)-1
		if a.Number != i+1 || a.taken() != last {
			v.note(&v.brokenLogs, "attempt %d of %d of %s has the number %d and the status %v", i+1, len(d.Attempts), d.ID, a.Number, a.Status)
		}
		if !a.taken() {
			v.failed++
		}
		if i > 0 {
			v.pause(d, i, away, s)
		}
	}
	if len(d.Attempts) == 0 {
		v.note(&v.brokenLogs, "%s has no attempt on record", d.ID)
	}
}

// pause holds the time between two attempts to the schedule, ±20 %.
func (v *verdict) pause(d delivery, i int, away []outage, s schedule) {
	from, to := d.Attempts[i-1].ended(), d.Attempts[i].At
	due, took := s.due(i), to.Sub(from)
	v.pauses++
	if took < due*8/10-20*time.Millisecond {
		v.note(&v.early, "%s: attempt %d came %s after the one before, not %s", d.ID, i+1, took, due)
		return
	}
	if took <= due*12/10+s.slack {
		return
	}
	for _, o := range away {
		if o.from.Before(to) && o.until.After(from) {
			v.across++
			return
		}
	}
	v.note(&v.late, "%s: attempt %d came %s after the one before, not %s", d.ID, i+1, took, due)
}
