package agent

import "strings"

// Router registers functions under a prefix: in one with the prefix "support", "analyze" is the agent's "support_analyze".
type Router struct {
	to     Registrar
	prefix string
	tags   []string
}

// Registrar is what functions are registered with: an agent or a router.
type Registrar interface {
	add(name, kind string, call Func, options []Option)
}

// Router makes a router of the agent. Slashes, dots, dashes and spaces of the prefix become underscores; tags are added to those of each
// function.
func (a *Agent) Router(prefix string, tags ...string) *Router { return newRouter(a, prefix, tags) }

// Router makes a router within the router: its functions have both prefixes, the outer one first.
func (r *Router) Router(prefix string, tags ...string) *Router { return newRouter(r, prefix, tags) }

func newRouter(to Registrar, prefix string, tags []string) *Router {
	clean := strings.NewReplacer("/", "_", ".", "_", "-", "_", " ", "_").Replace(strings.Trim(prefix, "/"))
	return &Router{to: to, prefix: clean, tags: tags}
}

// Reasoner registers a function; see Agent.Reasoner.
func (r *Router) Reasoner(name string, f Func, options ...Option) {
	r.add(name, "reasoner", f, options)
}

// Skill registers a function as a skill.
func (r *Router) Skill(name string, f Func, options ...Option) { r.add(name, "skill", f, options) }

func (r *Router) add(name, kind string, call Func, options []Option) {
	if r.prefix != "" {
		name = r.prefix + "_" + name
	}
	tagged := func(f *function) { f.tags = append(append([]string(nil), r.tags...), f.tags...) }
	r.to.add(name, kind, call, append(append([]Option(nil), options...), tagged))
}
