//go:build unix

// Command target is Holdpost behind the bench contract, so that any load generator can drive it. It serves Socket.IO on
// /socket.io/; on the namespace "/":
//
//	echo payload + ack      ack(payload)
//	bcast payload           emit msg payload to the whole namespace
//	join room + ack         join the room, ack()
//	room room payload       emit msg payload to that room
//
// One JSON line on standard output says that it listens: {"listen":"127.0.0.1:PORT","pid":N}. SIGUSR2 collects garbage
// and gives free memory back, which another line answers. SIGTERM and an interrupt end it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/bench/program"
	"github.com/holdpost/holdpost/delivery"
	"github.com/holdpost/holdpost/queue/embedded"
	"github.com/holdpost/holdpost/queue/local"
)

func main() { program.Main(run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("target", flag.ContinueOnError)
	f.SetOutput(stderr)
	addr := f.String("addr", "127.0.0.1:0", "`host:port` to listen on")
	recovery := f.Bool("recovery", false, "switch connection state recovery on")
	dir := f.String("dir", "", "`directory` of what recovery stores (default a new one, removed at the end)")
	msgpack := f.Bool("msgpack", false, "use the msgpack codec")
	cpu := f.String("cpuprofile", "", "write a CPU profile to this `file`")
	mem := f.String("memprofile", "", "write a heap profile to this `file` after the last collection")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if f.NArg() > 0 {
		fmt.Fprintf(stderr, "target: unexpected argument %q\n", f.Arg(0))
		return 2
	}
	if err := serve(ctx, options{*addr, *cpu, *mem, *recovery, *dir, *msgpack}, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "target:", err)
		return 1
	}
	return 0
}

type options struct {
	addr, cpu, mem string
	recovery       bool
	dir            string
	msgpack        bool
}

func serve(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if o.cpu != "" {
		f, err := os.Create(o.cpu)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	listener := net.ListenConfig{KeepAlive: -1} // the protocol pings
	l, err := listener.Listen(ctx, "tcp", o.addr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	config := holdpost.Config{Logger: log, MessagePack: o.msgpack}
	if o.recovery {
		journal, closeJournal, err := openJournal(ctx, o.dir, log)
		if err != nil {
			return err
		}
		defer closeJournal()
		config.Recovery = &holdpost.Recovery{Journal: journal}
	}
	srv := holdpost.NewServer(&config)
	handle(srv.Of("/"))
	web := &http.Server{Handler: srv}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(l) }() // ends with web.Close below

	collect := make(chan os.Signal, 1)
	signal.Notify(collect, syscall.SIGUSR2)
	defer signal.Stop(collect)
	out := json.NewEncoder(stdout)
	if err := out.Encode(map[string]any{"listen": l.Addr().String(), "pid": os.Getpid()}); err != nil {
		return err
	}
	for {
		select {
		case <-collect:
			if err := out.Encode(collected(o.mem, stderr)); err != nil {
				return err
			}
			continue
		case err = <-failed:
		case <-ctx.Done():
		}
		break
	}
	// Hijacked connections are invisible to the HTTP server: ours go first.
	end, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if srv.Shutdown(end) != nil { // clients that went without a word may take longer than anybody waits here
		err = errors.Join(err, srv.Close())
	}
	return errors.Join(err, web.Close())
}

// openJournal opens a store for recovery, or makes one. Without a directory it gets one that goes with the process.
func openJournal(ctx context.Context, dir string, log *slog.Logger) (_ *delivery.Journal, closeAll func(), err error) {
	remove := func() {}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "holdpost-target-"); err != nil {
			return nil, nil, err
		}
		remove = func() { os.RemoveAll(dir) }
	}
	store, err := local.Open(ctx, local.Config{Engine: embedded.Config{Dir: dir, Level: embedded.LevelMemory, Logger: log}})
	if err != nil {
		remove()
		return nil, nil, err
	}
	journal := delivery.NewJournal(store.Broker, log)
	return journal, func() {
		store.Close()
		journal.Close()
		remove()
	}, nil
}

// collected gives back what is free. What finalisers and pools let go of only a second collection frees.
func collected(profile string, stderr io.Writer) map[string]any {
	runtime.GC()
	debug.FreeOSMemory()
	if profile != "" {
		if err := writeHeap(profile); err != nil {
			fmt.Fprintln(stderr, "target:", err)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return map[string]any{
		"collected": true, "heap": m.HeapAlloc, "heapInUse": m.HeapInuse, "stacks": m.StackInuse, "goroutines": runtime.NumGoroutine(),
	}
}

func writeHeap(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}
