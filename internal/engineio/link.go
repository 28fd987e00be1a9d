package engineio

import (
	"net"
	"time"
)

// A link is the connection under a WebSocket. How it waits for bytes is its own business: a goroutine each today, and
// a loop over many could stand here without anything above noticing.
//
// One goroutine at a time writes. close may be called at any time, and more than once.
type link interface {
	// start begins to read and hands everything to the receiver, first of all initial.
	start(to receiver, initial []byte)

	// try writes what is taken without waiting, which may be nothing.
	try(b []byte) (n int, err error)

	// write writes all of b. It gives up when nothing was taken for as long as patience.
	write(b []byte, patience time.Duration) error

	// calm is called when a writer that has waited is done for now.
	calm()

	// closeWrite tells the peer that no more is coming. The link goes on reading if it can.
	closeWrite()

	close()
}

// A receiver takes what a link reads, in one goroutine at a time.
type receiver interface {
	// received takes bytes that it may overwrite until it returns. What it returns, unless nil, is to be run while the link
	// reads on.
	received(b []byte) (work Runner)

	// lost is the last call.
	lost(err error)
}

// plainLink works on any net.Conn by means of its blocking calls.
type plainLink struct {
	conn  net.Conn
	tasks *tasks
}

const plainBuffer = 512 // kept while idle, so it is small; a bigger one is borrowed while there is much to read

func (l *plainLink) start(to receiver, initial []byte) {
	if !l.tasks.begin() {
		l.close()
		to.lost(net.ErrClosed)
		return
	}
	go l.read(to, initial)
}

func (l *plainLink) read(to receiver, initial []byte) {
	defer l.tasks.done()
	take := func(b []byte) {
		if work := to.received(b); work != nil {
			go work.Run()
		}
	}
	if len(initial) > 0 {
		take(initial)
	}
	small := make([]byte, plainBuffer)
	for {
		n, err := l.conn.Read(small)
		if n > 0 {
			take(small[:n])
		}
		if n == len(small) && err == nil {
			err = l.readMuch(take)
		}
		if err != nil {
			l.close()
			to.lost(err)
			return
		}
	}
}

// readMuch reads with a big buffer for as long as that comes back at least half full.
func (l *plainLink) readMuch(take func(b []byte)) error {
	big := reads.Get().(*[readSize]byte)
	defer reads.Put(big)
	for {
		n, err := l.conn.Read(big[:])
		if n > 0 {
			take(big[:n])
		}
		if err != nil || n < len(big)/2 {
			return err
		}
	}
}

// try leaves everything to write: there is no way to ask a net.Conn what it would take.
func (l *plainLink) try([]byte) (int, error) { return 0, nil }

func (l *plainLink) write(b []byte, patience time.Duration) error {
	for len(b) > 0 {
		l.conn.SetWriteDeadline(time.Now().Add(patience))
		n, err := l.conn.Write(b[:min(len(b), pieceSize)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (l *plainLink) calm() { l.conn.SetWriteDeadline(time.Time{}) }

func (l *plainLink) closeWrite() {
	if c, ok := l.conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		return
	}
	l.close()
}

func (l *plainLink) close() { l.conn.Close() }
