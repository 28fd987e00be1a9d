// Command holdpost is the real-time event server with message queues built in, and the commands that talk to it. See
// package app for what it does and for its exit codes.
package main

import (
	"context"
	"os"

	"github.com/holdpost/holdpost/internal/app"
)

func main() {
	os.Exit(app.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
