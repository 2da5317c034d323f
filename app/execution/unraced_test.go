//go:build !race

package execution_test

// 5,000 lives on each engine, 10,000 in all, and 1,000 races. -rapid.checks changes the rounds.
const (
	herd   = 100
	rounds = "50"
	races  = 1000
)
