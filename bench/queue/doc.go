//go:build linux

// Command queue measures kept messaging, on the embedded engine or on NATS servers: what a publish costs that survives a power cut, beside
// what the disk and JetStream itself do; how long personal queues take to hand over what their consumers missed, and what
// others notice of that; a work queue; a replay; and what queues cost that nobody is connected to.
//
//	go run ./bench/queue -dir /path/on/the/disk
//	go run ./bench/queue -quick
//	go run ./bench/queue -nats nats://127.0.0.1:4222    the log on NATS servers that run already
//
// The directory decides what is measured: the temporary one may be in memory.
package main
