package embedded

import (
	"encoding/hex"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// groupCommit says that one flush makes everything written so far durable, so the server need not sync each message.
const groupCommit = true

const canNotSyncDirs = false

// flush makes all that was written to the file system of dir durable. Since Linux 5.8 syncfs(2) reports write errors.
func flush(dir, _ *os.File) error {
	for {
		if err := unix.Syncfs(int(dir.Fd())); err != unix.EINTR {
			return os.NewSyscallError("syncfs", err)
		}
	}
}

// bootID names this run of the kernel; zero = not known.
func bootID() (id [16]byte) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err == nil {
		digits := strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
		if raw, err := hex.DecodeString(digits); err == nil {
			copy(id[:], raw)
		}
	}
	return id
}
