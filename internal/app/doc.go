// Package app puts the holdpost binary together: its commands, its configuration, and the server as a list of things that
// run and can be interrupted.
//
// [Run] is the whole program. It returns the exit code and never ends the process itself, so that a test can call it:
//
//	0   done
//	1   the server refused, or something failed that has no code of its own
//	64  the command line or an environment variable is wrong, or asks for what can never be
//	65  the store has lost acknowledged events, and nobody said that this is accepted
//	69  there is no server to talk to
//	75  something that the server needs is taken: its data directory or its port
//	77  the server wants an API key, or one with more permissions
//	78  the configuration is wrong or incomplete
//
// The first SIGINT or SIGTERM ends a command in good order: a server drains. The second ends the process at once, which
// loses nothing that was acknowledged.
//
// Configuration comes from a file, environment variables and flags; package config says how.
package app
