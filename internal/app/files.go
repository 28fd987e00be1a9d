package app

import "github.com/holdpost/holdpost/internal/config"

// reserveFiles are the files that connections leave for the store, the log and the internal listener.
const reserveFiles = 512

// maxConnections returns how many connections there may be at a time; 0 is no limit.
func maxConnections(c *config.Config) int {
	if c.Limits.Connections > 0 {
		return c.Limits.Connections
	}
	files := maxFiles()
	return max(files-reserveFiles, files/2)
}
