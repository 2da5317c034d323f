package node

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestABreakerCountsFailuresInARow(t *testing.T) {
	outcomes := map[rune]Outcome{'S': OK, 'F': Failed, 'U': Unreachable, 'C': AgentError, 'H': HungUp}
	for name, c := range map[string]struct {
		alone bool
		calls string // S succeeded, F failed, U unreachable, C caller's mistake, H hung up
		open  bool
	}{
		"four of several":                     {false, "FFFF", false},
		"five of several":                     {false, "FFFFF", true},
		"unreachable counts as well":          {false, "FUFUF", true},
		"a success in between":                {false, "FFFFSFFFF", false},
		"a caller's mistake counts nothing":   {false, "FFCCCCFCF", false},
		"and hides nothing":                   {false, "FFCFFCF", true},
		"who hung up says nothing":            {false, "HHHHHHHHHH", false},
		"nineteen of the only one":            {true, strings.Repeat("F", 19), false},
		"twenty of the only one":              {true, strings.Repeat("F", 20), true},
		"a success closes it":                 {false, "FFFFFS", false},
		"so does a caller's mistake":          {false, "FFFFFC", false},
		"another failure keeps it open":       {false, "FFFFFF", true},
		"hanging up neither opens nor closes": {false, "FFFFFH", true},
	} {
		var b breaker
		for _, call := range c.calls {
			b.score(outcomes[call], c.alone, 1)
		}
		if b.open() != c.open {
			t.Errorf("%s (%s): open is %t", name, c.calls, b.open())
		}
	}
}

// One of three is sick: it gets five calls, then one every ten seconds, until one succeeds.
func TestASickInstanceGetsOneCallInTenSeconds(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		sick := r.add("http://a:1")
		r.add("http://b:1")
		r.add("http://c:1")
		calls := func(n int, sickly Outcome) (toSick int) {
			for range n {
				c := r.claim()
				o := OK
				if c.Instance.ID == sick {
					toSick, o = toSick+1, sickly
				}
				c.Release(o)
			}
			return toSick
		}
		if n := calls(300, Failed); n != breakAfter {
			t.Errorf("%d calls before it rests", n)
		}
		if got := r.Resting(sick); got["greet"] == 0 || len(got) != 1 {
			t.Errorf("resting: %v", got)
		}
		for range 6 {
			r.clock.advance(breakRest)
			if n := calls(300, Failed); n != 1 {
				t.Errorf("%d calls in ten seconds", n)
			}
		}
		r.clock.advance(breakRest)
		if n := calls(300, OK); n < 90 {
			t.Errorf("after its cure it got %d of 300", n)
		}
	})
}

// The call that may try is broken off: the next one may try ten seconds later, and nothing is stuck.
func TestATryThatIsBrokenOffBlocksNobody(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.add("http://a:1")
		for range breakAlone {
			r.claim().Release(Failed)
		}
		for range 3 {
			if _, err := r.Claim("hello", "greet", nil); !errors.Is(err, ErrCircuitOpen) || !errors.Is(err, ErrNoInstance) {
				t.Fatalf("an open breaker: %v", err)
			}
			if _, err := r.ClaimAny("hello", "greet", nil); !errors.Is(err, ErrCircuitOpen) {
				t.Fatalf("an open breaker for a sync call: %v", err)
			}
			r.clock.advance(breakRest)
			r.claim().Release(HungUp)
		}
		c, err := r.Claim("hello", "another", nil)
		if err != nil {
			t.Fatalf("another function suffers: %v", err)
		}
		c.Release(OK)
		r.clock.advance(breakRest)
		try := r.claim()
		r.clock.advance(time.Hour) // it takes its time, and the next try does not wait for it
		r.claim().Release(OK)
		r.claim().Release(OK)
		try.Release(OK)
		if len(r.Resting(try.Instance.ID)) != 0 {
			t.Error("still resting")
		}
	})
}
