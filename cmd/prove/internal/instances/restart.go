package instances

import (
	"context"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
)

// manner is how an instance restarts.
type manner int

const (
	announced manner = iota // it says that it goes, finishes what it has begun, and comes back
	abrupt                  // it is gone in the middle of its calls, and comes back
)

func (m manner) String() string {
	return [...]string{"each says so first", "each in the middle of calls that may be repeated"}[m]
}

// between two restarts, as a deployment that waits until the copy is ready.
const between = time.Second

// restartAll restarts one instance after the other while callers call.
func restartAll(ctx context.Context, api *client.Client, m manner, options Options) (calls, error) {
	all, err := fleet(ctx, api)
	if err != nil {
		return calls{}, err
	}
	defer func() { dismiss(all) }()
	function := once
	if m == abrupt {
		function = repeatable
	}
	stop := callSteadily(ctx, api, all[0].agent.Target(function), options.Rate)
	pause(ctx, between)
	for n := range all {
		next, err := restart(ctx, api, m, all[n])
		if err != nil {
			stop()
			return calls{}, err
		}
		all[n] = next
		pause(ctx, between)
	}
	return stop(), nil
}

func restart(ctx context.Context, api *client.Client, m manner, c *instance) (*instance, error) {
	if m == announced {
		if err := shutDown(ctx, api, c); err != nil {
			return c, err
		}
		c.agent.Retire(ctx)
	} else {
		c.agent.Close()
	}
	pause(ctx, between/2)
	next, err := newInstance(c.agent.Address(), c.agent.ID, c.name+"'", api.Base)
	if err != nil {
		return c, err
	}
	return next, register(ctx, api, next)
}
