//go:build race

package execution_test

// The race detector makes SQLite ten times slower: 300 lives and 500 races on each engine. -rapid.checks changes the rounds.
const (
	herd   = 20
	rounds = "15"
	races  = 500
)
