package embedded

import "os"

const childEnv = "HOLDPOST_EMBEDDED_CHILD"

func child() { os.Exit(0) }
