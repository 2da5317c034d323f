//go:build !race

package execution_test

// 5,000 lives on each engine, 10,000 in all. -rapid.checks changes the rounds.
const (
	herd   = 100
	rounds = "50"
)
