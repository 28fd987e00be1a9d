package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/holdpost/holdpost"
	"github.com/holdpost/holdpost/internal/frame"
)

// switching is what a session needs to move from polling to a WebSocket (Engine.IO v4, "Upgrade").
type switching struct {
	turn    chan struct{} // holds one token while somebody writes
	pausing chan struct{} // closed: no other poll is to begin
	paused  chan struct{} // closed: no poll is under way any more
	done    chan struct{} // closed: the session has moved
}

func newSwitching() *switching {
	return &switching{make(chan struct{}, 1), make(chan struct{}), make(chan struct{}), make(chan struct{})}
}

// poll polls until the session ends, which is an error, or has moved.
func (l *link) poll() error {
	var pausing <-chan struct{}
	if l.switching != nil {
		pausing = l.switching.pausing
	}
	for l.ws.Load() == nil {
		select {
		case <-pausing:
			close(l.switching.paused)
			select {
			case <-l.switching.done:
				return nil
			case <-l.ctx.Done():
				return errEnded
			}
		default:
		}
		body, err := l.get(l.ctx, l.handshake.SID)
		if err == nil {
			err = l.payload(body)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// upgrade moves the session to a WebSocket. If none can be opened polling goes on.
func (l *link) upgrade() {
	ctx, cancel := context.WithTimeout(l.ctx, l.client.config.ConnectTimeout)
	defer cancel()
	ws, err := l.probe(ctx)
	if err != nil {
		l.client.config.Logger.Debug("polling goes on", "url", l.client.address(), "error", err)
		return
	}
	// From here on the server expects the session to move: what fails ends it.
	s := l.switching
	close(s.pausing)
	select {
	case <-s.paused:
	case <-ctx.Done():
		ws.close()
		l.end(holdpost.ReasonTransportError, fmt.Errorf("upgrade: the last poll does not end: %w", context.Cause(ctx)))
		return
	}
	s.turn <- struct{}{} // the last request has been answered
	if errors.Join(ws.text([]byte("5")), ws.flush()) != nil {
		ws.close() // the reader finds out, and asks why
	}
	l.to = ws
	l.ws.Store(ws)
	<-s.turn
	if l.ctx.Err() != nil {
		ws.close()
	}
	close(s.done)
}

// lastPoll fetches what is left after the WebSocket has ended before anything came over it: a server that closes the session
// while it moves hangs up on the WebSocket, and answers one more poll.
func (l *link) lastPoll() {
	if body, err := l.get(l.ctx, l.handshake.SID); err == nil {
		l.payload(body)
	}
}

// probe opens a WebSocket for the session and makes sure that it works both ways.
func (l *link) probe(ctx context.Context) (*webSocket, error) {
	ws, refused := l.dialWebSocket(ctx, l.handshake.SID)
	if refused != nil {
		return nil, refused
	}
	stop := context.AfterFunc(ctx, ws.close)
	var p probeHandler
	err := errors.Join(ws.text([]byte("2probe")), ws.flush())
	for err == nil && !p.answered {
		err = ws.read(&p)
	}
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		stop()
		ws.close()
		return nil, err
	}
	return ws, nil
}

// probeHandler waits for the answer to a probe, the only thing that may come before the session has moved.
type probeHandler struct {
	answered bool
}

func (p *probeHandler) Message(op frame.Opcode, payload []byte) error {
	if p.answered || op != frame.Text || string(payload) != "3probe" {
		return errors.New("the probe is not answered")
	}
	p.answered = true
	return nil
}

func (p *probeHandler) Control(op frame.Opcode, _ []byte) error {
	if op == frame.Close {
		return errors.New("the probe is closed")
	}
	return nil
}

// closedByPeer tells whether a connection ended because the other side closed it.
func closedByPeer(err error) bool {
	return errors.Is(err, errHungUp) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
