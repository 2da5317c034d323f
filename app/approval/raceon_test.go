//go:build race

package approval_test

// underRace: the detector makes everything many times slower.
const underRace = true
