package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// request is one message on its way into the log.
type request struct {
	subject string
	msgID   string // dedupe id, or empty
	trace   string // traceparent, or empty
	data    []byte
	event   bool           // goes to the stream of events
	last    string         // the sequence of the subject's last message has to be this; empty is any
	batch   []*request     // instead of the fields above but event: messages that are stored together or not at all
	known   uint64         // it was stored before, under this sequence; 0 is not known
	done    func(*request) // called once by the committer, with the fields below set; must not block

	state atomic.Int32 // waiting, taken or withdrawn

	// owned by the committer until done
	answered  bool
	seq       uint64
	duplicate bool
	err       error // ErrUnknown: perhaps stored; anything else: not stored
}

const (
	waiting int32 = iota
	taken
	withdrawn
)

func (r *request) size() int {
	n := len(r.data)
	for _, part := range r.batch {
		n += len(part.data)
	}
	return n
}

// message is what goes to the log, without a reply.
func (r *request) message() *nats.Msg {
	m := &nats.Msg{Subject: r.subject, Data: r.data}
	if r.msgID != "" || r.last != "" || r.trace != "" {
		m.Header = nats.Header{}
	}
	if r.msgID != "" {
		m.Header[nats.MsgIdHdr] = []string{r.msgID}
	}
	if r.last != "" {
		m.Header[nats.ExpectedLastSubjSeqHdr] = []string{r.last}
	}
	if r.trace != "" {
		m.Header[traceHeader] = []string{r.trace}
	}
	return m
}

// withdraw takes a request back that the committer has not touched: it is definitely not stored, and done is not called.
func (r *request) withdraw() bool { return r.state.CompareAndSwap(waiting, withdrawn) }

// unsent tells why a message was not given to the log.
func unsent(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return refuse("too_large", "event is larger than the log takes")
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// parseAck reads the log's answer, {"stream":"EVT_0","seq":7,"duplicate":true}. It returns 0 for anything else.
func parseAck(b []byte) (seq uint64, duplicate bool) {
	var ack struct {
		Seq       uint64
		Duplicate bool
		Error     json.RawMessage
	}
	if json.Unmarshal(b, &ack) != nil || ack.Error != nil {
		return 0, false
	}
	return ack.Seq, ack.Duplicate
}

var (
	errWrongLast = refuse("wrong_last", "the last event of the topic is another one")
	errRepeated  = refuse("conflict", "some of the events were published before, and not together with the others")
)

// refused translates the log's refusals: nothing was stored, but where that is not sure.
func refused(b []byte, replicas int) error {
	var ack struct {
		Error struct {
			ErrCode     int `json:"err_code"`
			Description string
		}
	}
	if err := json.Unmarshal(b, &ack); err != nil {
		return fmt.Errorf("%w: answer %.100q", ErrUnknown, b)
	}
	switch e := ack.Error; e.ErrCode {
	case 10002, 10023, 10028, 10047: // limits of the account, insufficient resources, account resources, storage resources
		return fmt.Errorf("%w: %s", ErrFull, e.Description)
	case 10077: // a limit of the stream; or one of its replicas could not write, and others may have
		if replicas > 1 {
			return fmt.Errorf("%w: %s", ErrUnknown, e.Description)
		}
		return fmt.Errorf("%w: %s", ErrFull, e.Description)
	case 10158: // the same id is on its way into the log
		return fmt.Errorf("%w: %s", ErrUnknown, e.Description)
	case 10071, 10164: // wrong last sequence
		return errWrongLast
	case 10201: // a batch with an id that is known
		return errRepeated
	case 10054: // message size exceeds maximum allowed
		return refuse("too_large", "%s", e.Description)
	default:
		return fmt.Errorf("%w: %s (%d)", ErrUnavailable, e.Description, e.ErrCode)
	}
}
