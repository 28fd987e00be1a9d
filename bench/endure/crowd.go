//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"time"
)

// crowd is the clients that a measurement is about, in a process of their own that yields to every other one: in earnest they are other
// machines, which take no processor from the server, nor from those whose waiting is measured.
type crowd struct {
	cmd    *exec.Cmd
	client *rpc.Client
}

// startCrowd starts the process. It ends with ctx, and with this one.
func startCrowd(ctx context.Context) (*crowd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &crowd{cmd: exec.CommandContext(ctx, "nice", "-n", "19", self, "crowd")}
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.client = rpc.NewClient(pipe{out, in})
	return c, nil
}

func (c *crowd) close() {
	c.client.Close()
	c.cmd.Wait()
}

// gather is [gather] there.
func (c *crowd) gather(s *server, clients, events int) (g Gathered, err error) {
	err = c.client.Call("Crowd.Gather", Gathering{s.listen, clients, events}, &g)
	return g, err
}

// leave has the herd go.
func (c *crowd) leave() error { return c.client.Call("Crowd.Leave", struct{}{}, new(struct{})) }

// dial connects readers, each of one of the topics of the options.
func (c *crowd) dial(o *options, s *server) error {
	return c.client.Call("Crowd.Dial", Dialing{s.listen, o.clients, o.topics}, new(struct{}))
}

// back tells how many readers have connected a second time.
func (c *crowd) back() (n int, err error) {
	err = c.client.Call("Crowd.Back", struct{}{}, &n)
	return n, err
}

// take is [latencies.take] of the readers.
func (c *crowd) take() (s string, err error) {
	err = c.client.Call("Crowd.Take", struct{}{}, &s)
	return s, err
}

// missing tells how many events the readers have not got, of so many of each topic.
func (c *crowd) missing(counts []int) (n int, err error) {
	err = c.client.Call("Crowd.Missing", counts, &n)
	return n, err
}

// pipe is both directions of a process's standard input and output.
type pipe struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p pipe) Write(b []byte) (int, error) { return p.in.Write(b) }

func (p pipe) Close() error {
	p.in.Close()
	return p.ReadCloser.Close()
}

// serveCrowd is that process, until its input ends.
func serveCrowd(ctx context.Context) error {
	c := &Crowd{ctx: ctx}
	defer c.Leave(struct{}{}, nil)
	s := rpc.NewServer()
	if err := s.Register(c); err != nil {
		return err
	}
	s.ServeConn(pipe{os.Stdin, os.Stdout})
	return nil
}

// Crowd is what it is asked for, one call at a time.
type Crowd struct {
	ctx     context.Context
	herd    *gathering
	readers []*reader
	took    latencies
}

// Gathering asks for a herd.
type Gathering struct {
	Listen          string
	Clients, Events int
}

// Gathered is how long it took until the last one was let in, and until all had everything.
type Gathered struct{ Joined, Took time.Duration }

// Gather replaces the herd of the last call.
func (c *Crowd) Gather(g Gathering, took *Gathered) (err error) {
	c.Leave(struct{}{}, nil)
	begun := time.Now()
	if c.herd, err = gather(g.Listen, g.Clients, g.Events); err == nil {
		*took = Gathered{c.herd.joined, time.Since(begun)}
	}
	return err
}

// Leave closes the connections of the herd.
func (c *Crowd) Leave(struct{}, *struct{}) error {
	if c.herd != nil {
		c.herd.loop.Close()
	}
	c.herd = nil
	return nil
}

// Dialing asks for readers.
type Dialing struct {
	Listen          string
	Clients, Topics int
}

// Dial is dialAll.
func (c *Crowd) Dial(d Dialing, _ *struct{}) (err error) {
	c.readers, err = dialAll(c.ctx, d.Topics, d.Listen, "reader", d.Clients, &c.took)
	return err
}

// Back counts the readers that have connected again.
func (c *Crowd) Back(_ struct{}, n *int) error {
	for _, r := range c.readers {
		if r.connects.Load() >= 2 {
			*n++
		}
	}
	return nil
}

// Take says how late events were since the last time.
func (c *Crowd) Take(_ struct{}, s *string) error {
	*s = c.took.take()
	return nil
}

// Missing counts what has not come of so many events of each topic.
func (c *Crowd) Missing(counts []int, n *int) error {
	if len(counts) == 0 {
		return fmt.Errorf("no topics")
	}
	for i, r := range c.readers {
		*n += r.missing(counts[i%len(counts)])
	}
	return nil
}
