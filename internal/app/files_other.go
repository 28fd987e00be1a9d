//go:build !unix

package app

// maxFiles returns how many files the process may open; 0 is no limit that matters.
func maxFiles() int { return 0 }
