//go:build !race

package webhook

// underRace: the detector makes everything many times slower.
const underRace = false
