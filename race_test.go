//go:build race

package holdpost_test

const raceDetector = true
