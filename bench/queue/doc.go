//go:build linux

// Command queue measures kept messaging on the embedded engine: what a publish costs that survives a power cut, beside
// what the disk can do at best, and how long personal queues take to hand over what their consumers missed.
//
//	go run ./bench/queue -dir /path/on/the/disk
//	go run ./bench/queue -quick
//
// The directory decides what is measured: the temporary one may be in memory.
package main
