package app

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newMan writes the manual, for those who make packages.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write a manual page for each command",
		Long:    "Write a manual page for each command into a directory, which is made when it is missing. The date is that of SOURCE_DATE_EPOCH, if it is set.",
		Example: "  holdpost man /usr/local/share/man/man1",
		Hidden:  true,
		Args:    positional(false, "DIR"),
		RunE: command(func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			header := &doc.GenManHeader{Section: "1", Source: fmt.Sprintf("holdpost %s", buildVersion().Version), Manual: "Holdpost"}
			return doc.GenManTree(cmd.Root(), header, args[0])
		}),
	}
}
