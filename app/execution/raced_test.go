//go:build race

package execution_test

// The race detector makes SQLite ten times slower: 500 lives on each engine. -rapid.checks changes the rounds.
const (
	herd   = 25
	rounds = "20"
)
