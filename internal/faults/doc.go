// Package faults has tests alone: a child process publishes and consumes until it is killed or stopped, or its disk loses power, fills
// up, fails or hangs, or is damaged; another one goes on where it was; and package history checks what all of them saw.
// docs/reliability.md has the results.
//
//	go test ./internal/faults         a few rounds
//	make faults                       many
//
// HOLDPOST_FAULTS=long asks for many. Each test prints its seed, and takes another one from HOLDPOST_FAULTS_SEED: that repeats
// what is published and when faults come, by the count of events, but not how goroutines take turns. Of a test that fails the
// history is left in a file that it names; HOLDPOST_FAULTS_HISTORY=file checks such a file again.
package faults
