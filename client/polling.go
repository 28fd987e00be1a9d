package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/holdpost/holdpost/internal/engineio/wire"
)

// A poller is one session over HTTP long-polling (Engine.IO v4, "HTTP long-polling"). Reading belongs to one goroutine,
// writing to another.
type poller struct {
	link *link
	out  []byte // a payload that was not posted yet; owned by the writer
}

var errTooLarge = errors.New("the server sent more than Config.MaxPayload allows")

// get polls once and returns the payload that came.
func (l *link) get(ctx context.Context, sid string) ([]byte, error) {
	c := l.client
	r := c.request(ctx, http.MethodGet, pollingName, sid, nil)
	// A poll must not be repeated: what the first one was answered is gone. net/http repeats a GET whose connection breaks, unless it
	// has a body.
	r.Body = io.NopCloser(io.MultiReader())
	resp, err := l.web.Do(r)
	if err != nil {
		return nil, requestError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, answerError(resp)
	}
	limit := int64(2 * c.config.MaxPayload)
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = errTooLarge
	}
	return body, err
}

func (p *poller) text(packet []byte) error {
	if err := p.room(len(packet)); err != nil {
		return err
	}
	p.out = append(p.out, packet...)
	return nil
}

func (p *poller) binary(message []byte) error {
	if err := p.room(1 + (len(message)+2)/3*4); err != nil {
		return err
	}
	p.out = wire.AppendBinary(p.out, message)
	return nil
}

// room makes room for a packet of n bytes: what would be too much for one request is posted before. A packet that is too large
// by itself is sent nevertheless, as the official client does; the server answers for it.
func (p *poller) room(n int) error {
	if len(p.out) == 0 {
		return nil
	}
	if len(p.out)+1+n > p.link.handshake.MaxPayload {
		return p.flush()
	}
	p.out = append(p.out, wire.Separator)
	return nil
}

// flush posts what was appended.
func (p *poller) flush() error {
	if len(p.out) == 0 {
		return nil
	}
	body := p.out
	p.out = nil
	c := p.link.client
	ctx, cancel := context.WithTimeoutCause(p.link.ctx, c.config.WriteTimeout, errors.New("the server took nothing for too long"))
	defer cancel()
	r := c.request(ctx, http.MethodPost, pollingName, p.link.handshake.SID, bytes.NewReader(body))
	r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	resp, err := p.link.web.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("post: %w", answerError(resp))
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody)) // so that the connection serves again
	return err
}

// bye closes the session.
func (p *poller) bye() error {
	p.text([]byte{byte(wire.Close)})
	return p.flush()
}

func (p *poller) pong([]byte) error { return nil } // a WebSocket's
func (p *poller) close()            {}
