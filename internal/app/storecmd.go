package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/holdpost/holdpost/internal/config"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

const (
	backupPath = "/v1/store/backup"
	backupType = "application/x-tar"
)

func newStore() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Verify, mend, back up and restore what is kept on the disk",
		Long: `What a server keeps on its disk. Each server reads its store through when it starts, and then once a day; these
commands do it without starting one, back it up while it serves, and bring it elsewhere. docs/store.md says what
there is on the disk and what can be wrong with it.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usage(suggest(args[0], names(cmd), "see: holdpost store --help"), "unknown command %q", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStoreVerify(), newStoreRepair(), newStoreBackup(), newStoreRestore())
	return cmd
}

// onStore makes a command that works on a store that no server has open.
func onStore(cmd *cobra.Command, needed []string, do func(cmd *cobra.Command, dir string, asJSON bool, args []string) error) *cobra.Command {
	var asJSON bool
	cmd.Args = positional(false, needed...)
	f := cmd.Flags()
	file := configFlag(f)
	f.String("data-dir", config.Default().DataDir, "`directory` of the store")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = command(func(cmd *cobra.Command, args []string) error {
		c, err := loadConfig(cmd, *file)
		if err != nil {
			return err
		}
		if c.NATS.Outside() {
			return &exitError{exitConfig, errors.New("there is no store on this disk: nats.urls has the log elsewhere"),
				"use the tools of those servers: nats stream info, backup, restore"}
		}
		err = do(cmd, c.DataDir, asJSON, args)
		if _, ok := errors.AsType[*exitError](err); ok {
			return err
		}
		if errors.Is(err, fs.ErrNotExist) {
			return &exitError{exitFailed, err, "say where the store is: --data-dir DIR, or --config FILE"}
		}
		return explainStore(err, c.DataDir)
	})
	return cmd
}

func newStoreVerify() *cobra.Command {
	return onStore(&cobra.Command{
		Use:   "verify",
		Short: "Read a store through, and tell whether anything is missing",
		Long: `Read every record of a store, and compare what is there with what was acknowledged. Nothing is changed. No server
may have the store open: one that runs reads it through by itself, once a day.

The journal of recovery, which is a store of its own, is read too. It is never flushed, and what is missing there keeps no
server from starting: clients whose session is gone are told so.

The exit code is 65 if acknowledged events are missing, and a server would refuse to start.`,
		Example: `  holdpost store verify --data-dir /var/lib/holdpost`,
	}, nil, func(cmd *cobra.Command, dir string, asJSON bool, _ []string) error {
		p := newProgress(cmd, asJSON)
		r, err := embedded.Verify(dir, p.of)
		p.end()
		if err != nil {
			return err
		}
		s := reportOf(dir, r)
		if s.Recovery, err = verifyJournal(dir, p); err != nil {
			return err
		}
		if err := s.print(cmd.OutOrStdout(), asJSON); err != nil {
			return err
		}
		if r.Loss != nil {
			return &exitError{exitData, errors.New("acknowledged events are missing"), "restore a backup, or go on without them: holdpost store repair --accept-loss"}
		}
		return nil
	})
}

func newStoreRepair() *cobra.Command {
	var acceptLoss bool
	cmd := onStore(&cobra.Command{
		Use:   "repair",
		Short: "Mend a store that a server refuses to open",
		Long: `Leave out of a store what can't be read. If events are lost a new epoch begins: every reader that had not seen them is
told of the gap, and no offset that somebody remembers is taken for another event. If queues are lost each begins anew
when it is asked for, with all that is kept, and its readers get events again that they had acknowledged; whoever was revoked
is let in again, until it is done once more. Copies of the damaged files are kept. What is lost is lost: restore a backup if there is one. The journal of recovery needs no repair: each
start goes on with what is left of it.

Without --accept-loss it mends only what costs nothing, as every start does.`,
		Example: `  holdpost store repair --data-dir /var/lib/holdpost --accept-loss`,
	}, nil, func(cmd *cobra.Command, dir string, asJSON bool, _ []string) error {
		p := newProgress(cmd, asJSON)
		defer p.end()
		c := embedded.Config{Dir: dir, Reserve: -1, Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
		if !acceptLoss {
			if r, err := embedded.Verify(dir, p.of); err != nil {
				return err
			} else if r.Loss != nil {
				return &exitError{exitData, r.Loss, "to go on without what is lost: holdpost store repair --accept-loss"}
			}
		}
		r, err := embedded.Repair(cmd.Context(), c, p.of)
		if err != nil {
			return err
		}
		p.end()
		if r.Loss == nil && len(r.Scars) == 0 {
			return reportOf(dir, r).print(cmd.OutOrStdout(), asJSON)
		}
		if r, err = embedded.Verify(dir, p.of); err != nil {
			return err
		}
		p.end()
		return reportOf(dir, r).print(cmd.OutOrStdout(), asJSON)
	})
	cmd.Flags().BoolVar(&acceptLoss, "accept-loss", false, "go on without what is lost")
	return cmd
}

// backupResult is what was written or read.
type backupResult struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

func (b backupResult) print(w io.Writer, asJSON bool, what string) error {
	if asJSON {
		return json.NewEncoder(w).Encode(b)
	}
	_, err := fmt.Fprintf(w, "%s %s, %s\n", what, printable(b.File), mebibytes(b.Bytes))
	return err
}

func newStoreBackup() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Back up the store of a running server",
		Long: `Write the store of a running server to a file, as it is at one moment: topics, queues with what is not acknowledged,
events that wait to be published, receipts. The file appears once it is whole; one that is there is not replaced.
FILE - is the standard output.

What live clients miss while they are away for a moment is not in it: it counts for two minutes, and after a restore they
are told that they were not recovered.`,
		Example: `  holdpost store backup /backup/holdpost-$(date +%F).tar
  holdpost store backup - | ssh backup 'cat > holdpost.tar'`,
		Args: positional(false, "FILE"),
	}
	server := serverFlag(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = command(func(cmd *cobra.Command, args []string) error {
		c, err := newClient(*server)
		if err != nil {
			return err
		}
		defer c.close()
		file := args[0]
		p := newProgress(cmd, asJSON)
		defer p.end()
		fetch := func(w io.Writer) (int64, error) {
			in, err := c.do(cmd.Context(), http.MethodGet, backupPath, nil, backupType)
			if err != nil {
				return 0, explained("back up", err)
			}
			defer in.Close()
			n, err := io.Copy(w, io.TeeReader(in, p))
			if err != nil && n > 0 {
				return n, fmt.Errorf("back up: %w", c.explain(cmd.Context(), err))
			}
			return n, err
		}
		if file == "-" {
			_, err := fetch(cmd.OutOrStdout())
			return err
		}
		n, err := newFile(file, fetch)
		if err != nil {
			return err
		}
		p.end()
		return backupResult{file, n}.print(cmd.OutOrStdout(), asJSON, "backed up to")
	})
	return cmd
}

func newStoreRestore() *cobra.Command {
	return onStore(&cobra.Command{
		Use:   "restore FILE",
		Short: "Make a store from a backup",
		Long: `Make a store from a backup, in a directory that is empty or not there. Offsets and queues mean what they meant when the
backup was made. What was stored later is lost, so a new epoch begins, and readers are told of the gap. FILE - is
the standard input.

The exit code is 65 if the file is not a whole backup; nothing is left then.`,
		Example: `  holdpost store restore /backup/holdpost-2026-11-25.tar --data-dir /var/lib/holdpost`,
	}, []string{"FILE"}, func(cmd *cobra.Command, dir string, asJSON bool, args []string) error {
		in := cmd.InOrStdin()
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return &exitError{exitFailed, err, ""}
			}
			defer f.Close()
			in = f
		}
		p := newProgress(cmd, asJSON)
		defer p.end()
		c := embedded.Config{Dir: dir, Reserve: -1, Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
		if err := embedded.Restore(cmd.Context(), c, io.TeeReader(in, p)); err != nil {
			return err
		}
		p.end()
		return backupResult{args[0], p.done}.print(cmd.OutOrStdout(), asJSON, "restored from")
	})
}

// newFile has a file written that must not be there yet. It appears once it is whole, and on the disk.
func newFile(name string, write func(io.Writer) (int64, error)) (n int64, err error) {
	if _, err := os.Lstat(name); err == nil {
		return 0, usage("take another name", "%s is there already", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // which is not there any more if all went well
	n, err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Link(f.Name(), name) // which replaces nothing
	}
	return n, err
}

// backup answers with the store.
func (s *server) backup(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", backupType)
	began := time.Now()
	err := s.store.Backup(r.Context(), w)
	if errors.Is(err, local.ErrOutside) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		json.NewEncoder(w).Encode(problem{http.StatusNotFound, "not_found", err.Error()})
		return
	}
	if err != nil {
		s.log.Warn("backup", "error", err)
		panic(http.ErrAbortHandler) // so that nobody takes it for a whole one
	}
	s.log.Info("backed up", "took", time.Since(began).Round(time.Millisecond))
}

// progress tells a person at a terminal how far it is.
type progress struct {
	w    io.Writer // nil: there is nobody
	done int64
	told time.Time
	line bool
}

func newProgress(cmd *cobra.Command, asJSON bool) *progress {
	p := new(progress)
	if file, ok := cmd.ErrOrStderr().(interface{ Fd() uintptr }); ok && !asJSON && term.IsTerminal(int(file.Fd())) {
		p.w = cmd.ErrOrStderr()
	}
	return p
}

func (p *progress) Write(b []byte) (int, error) {
	p.of(p.done+int64(len(b)), 0)
	return len(b), nil
}

// of takes note that so many bytes are done; total may be 0, for what is not known.
func (p *progress) of(done, total int64) {
	p.done = done
	if p.w == nil || time.Since(p.told) < 200*time.Millisecond {
		return
	}
	p.told, p.line = time.Now(), true
	if total > 0 {
		fmt.Fprintf(p.w, "\r%s of %s\x1b[K", mebibytes(done), mebibytes(total))
	} else {
		fmt.Fprintf(p.w, "\r%s\x1b[K", mebibytes(done))
	}
}

// end removes the line.
func (p *progress) end() {
	if p.line {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.line = false
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
