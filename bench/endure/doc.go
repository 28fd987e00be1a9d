//go:build linux

// Command endure runs the binary for a while, as its users would, and tells how it fared.
//
//	go run ./bench/endure restart -clients 10000     # a restart under load: what was lost, how long it took, what others noticed
//	go run ./bench/endure soak -minutes 30           # clients come and go: memory, goroutines and files over time
//	go run ./bench/endure herd -clients 10000        # clients that have missed events come back all at once, while 1,000 others go on
//
// It builds the binary and starts it in a directory that it removes at the end. Nothing is asserted but that no kept event is lost: then it
// ends with code 1.
package main
