package webhooks

import (
	"testing"
	"time"
)

func TestTheJudgeSeesWhatIsWrong(t *testing.T) {
	at := time.Date(2025, 1, 15, 10, 0, 0, 0, time.UTC)
	status := func(n int) *int { return &n }
	s := schedule{first: time.Second, longest: time.Minute, slack: 100 * time.Millisecond}
	good := func() delivery {
		return delivery{ID: "wh_1", Execution: "e", URL: "u", State: "delivered", Attempts: []attempt{
			{Number: 1, Status: status(500), At: at, Latency: 10},
			{Number: 2, At: at.Add(1100 * time.Millisecond), Latency: 10},
			{Number: 3, Status: status(204), At: at.Add(3000 * time.Millisecond)},
		}}
	}
	for name, c := range map[string]struct {
		change  func(d *delivery)
		arrived []string
		away    []outage
		good    bool
	}{
		"all is well":      {func(*delivery) {}, []string{"wh_1", "wh_1", "wh_1"}, nil, true},
		"one unrecorded":   {func(*delivery) {}, []string{"wh_1", "wh_1", "wh_1", "wh_1"}, nil, true},
		"two unrecorded":   {func(*delivery) {}, []string{"wh_1", "wh_1", "wh_1", "wh_1", "wh_1"}, nil, false},
		"another id":       {func(*delivery) {}, []string{"wh_2"}, nil, false},
		"given up":         {func(d *delivery) { d.State = "failed" }, nil, nil, false},
		"a number missing": {func(d *delivery) { d.Attempts[1].Number = 3 }, nil, nil, false},
		"nothing taken":    {func(d *delivery) { d.Attempts[2].Status = status(500) }, nil, nil, false},
		"too early":        {func(d *delivery) { d.Attempts[1].At = at.Add(700 * time.Millisecond) }, nil, nil, false},
		"too late":         {func(d *delivery) { d.Attempts[2].At = at.Add(9 * time.Second) }, nil, nil, false},
		"late for a kill": {
			func(d *delivery) { d.Attempts[2].At = at.Add(9 * time.Second) }, nil,
			[]outage{{at.Add(2 * time.Second), at.Add(3 * time.Second)}},
			true,
		},
		"an empty log": {func(d *delivery) { d.Attempts = nil }, nil, nil, false},
		"nowhere":      {func(d *delivery) { d.URL = "elsewhere" }, nil, nil, false},
	} {
		d := good()
		c.change(&d)
		v := judge([]string{"e"}, []string{"u"}, []delivery{d}, map[string][]string{"e u": c.arrived}, c.away, s)
		if v.good(1) != c.good {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if v := judge([]string{"e"}, []string{"u"}, []delivery{good(), good()}, nil, nil, s); v.doubled != 1 {
		t.Errorf("two deliveries of one: %+v", v)
	}
}
