package queue_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdpost/holdpost/internal/natstest"
	"github.com/holdpost/holdpost/queue/external"
)

// The tests of this package run on the embedded engine, unless natsEnv names servers that have an account for each directory of a
// test. TestOverNATS has them run so, in a process of their own: some of them, or with HOLDPOST_NATS=all every one that is not
// onDisk.
const (
	natsEnv  = "HOLDPOST_TEST_NATS"
	accounts = 1000
)

// core are those that run so every time, by what their names begin with.
var core = []string{
	"MissedThenLive", "RepeatedID", "NothingAcknowledgedIsLostByKill", "CursorSurvivesKillWithinItsSecond", "WholeEventComesBack", "NothingIsWritten",
	"Batch", "Delayed", "Later", "Expect", "History", "Queues", "Receipts", "Shared", "Dead", "Manual", "Topic", "Delete", "Close",
}

// onDisk skips a test that damages the files of the embedded engine.
func onDisk(t *testing.T) {
	if os.Getenv(natsEnv) != "" {
		t.Skip("it is about the embedded engine")
	}
}

func TestOverNATS(t *testing.T) {
	if os.Getenv(natsEnv) != "" {
		t.Skip("this is over NATS")
	}
	which := []string{"-test.run=^Test(" + strings.Join(core, "|") + ")"}
	if os.Getenv("HOLDPOST_NATS") == "all" {
		which = []string{"-test.run=^Test"}
	}
	if testing.Verbose() {
		which = append(which, "-test.v")
	}
	server := natstest.Run(t, natstest.Config{Accounts: accounts})
	cmd := exec.CommandContext(t.Context(), os.Args[0], which...)
	cmd.Env = append(os.Environ(), natsEnv+"="+server.URL)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}

var account atomic.Int64 // the one that was given away last

// startExternal starts an engine on the account of a directory, which is noted there for other processes that use it.
func startExternal(ctx context.Context, urls, dir string, s setup) (engine, error) {
	note := filepath.Join(dir, "account")
	user, err := os.ReadFile(note)
	if errors.Is(err, fs.ErrNotExist) {
		user = strconv.AppendInt(nil, account.Add(1), 10)
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = os.WriteFile(note, user, 0o600)
		}
	}
	if err != nil {
		return nil, err
	}
	return external.Start(ctx, external.Config{
		URLs: strings.Split(urls, ","), User: string(user), Password: natstest.Password, Node: "node of " + dir, Logger: quiet(), AcceptLoss: s.accept,
	})
}
