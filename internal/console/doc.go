// Package console serves the web pages that are built into the binary: for now the playground, where two clients in one
// page send each other events, one goes offline, and what it missed arrives when it is back.
//
// The pages are plain files under assets, an exact set of names: no directory is listed, no path is joined. They load
// nothing from elsewhere. The official Socket.IO client is copied into assets/vendor by make, from the version that
// package-lock.json pins, and is not part of the source tree; without it [Handler] serves a page that says so.
//
// Concurrency: a handler is immutable and safe for concurrent use. Limitations: no compression, no ranges; the pages
// are small and local.
package console
