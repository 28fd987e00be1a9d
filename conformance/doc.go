// Package conformance tests the binary with clients that others wrote: the official Socket.IO client from npm over every
// transport, and headless Chromium on the playground; and the library with that client. It has no code of its own.
//
// The Go test builds the binary, starts it on a data directory of its own, and runs the scripts in js with Node. A script
// reports one line of JSON for each of its cases, and asks the Go test to kill and start the server. It needs make, Node,
// npm and Chromium, which make test installs on Debian; npm's packages it installs itself, from the lock file.
// go test -short skips it all.
//
// Certificates come from Pebble, Let's Encrypt's test authority, which the module in pebble names, so that ours does not.
//
// Proxies, with the recipes of docs/operations.md, are tried as far as they are installed; HOLDPOST_LONG=1 tries all of them, also
// what takes minutes: make proxies.
//
// HOLDPOST_ONLY=text runs only the cases whose name contains the text; HOLDPOST_RACE=1 builds the binary with the race
// detector. Pictures of the playground are left in artifacts.
package conformance
