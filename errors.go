package holdpost

import (
	"encoding/json"
	"errors"
)

// ErrClosed is returned once a [Server] is shut down.
var ErrClosed = errors.New("holdpost: server closed")

// ErrTooMany is returned when a limit on one socket is reached: its rooms, the acks that it owes.
var ErrTooMany = errors.New("holdpost: too many for one socket")

// ErrInvalidName is returned for a name that is empty where it must not be, too long, not UTF-8, holds control
// characters, or is reserved.
var ErrInvalidName = errors.New("holdpost: invalid name")

// ErrUnanswered is returned by a handler, or by a [Wrapper], that leaves an ack unanswered, for the client to wait for in vain.
var ErrUnanswered = errors.New("holdpost: left unanswered")

// ErrUnhandled is what a [Wrapper] gets from the handlers of an event when there are none. Unless it makes another error of it, the
// event's ack is left unanswered, as other servers leave it: clients expect their own timeout then.
var ErrUnhandled = errors.New("holdpost: nobody handles this event")

// Error is an error that reaches the peer: a handler that returns one has its ack answered with
// {"error": {"code": Code, "message": Message}}. Codes are stable strings that programs compare; messages are for people.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Codes of errors that this package itself sends to peers.
const (
	CodeInternal        = "internal"         // a handler's uncoded error or panic
	CodeInvalidArgument = "invalid_argument" // the arguments do not fit the event
	CodeUnknownEvent    = "unknown_event"    // nobody handles the event, for servers that say so; see [ErrUnhandled]
)

// ConnectError refuses a socket: a gate that returns one has Message and Data sent to the client, which sees them as
// connect_error. Any other error of a gate is sent with its text as the message.
type ConnectError struct {
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

func (e *ConnectError) Error() string { return e.Message }

// RequestError says why a request was refused (Engine.IO v4, "Error handling"). Clients are told code and message.
type RequestError struct {
	Status  int    // of the response to a poll; to a WebSocket's handshake it is 400 when there is a code
	Code    int    // 0 to 5; -1 for what has no code in the protocol
	Message string // "Transport unknown", …; the text of the error of Config.AllowRequest
	Err     error  // what the client is not told, nil if there is no more to say
}

func (e *RequestError) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns e.Err.
func (e *RequestError) Unwrap() error { return e.Err }

// DisconnectError says that a socket is disconnected and why. It is the cause of [Socket.Context].
type DisconnectError struct {
	Reason Reason
	Err    error // what is behind the reason, where more is known: how the connection broke, what was wrong with a packet
}

func (e *DisconnectError) Error() string {
	text := "holdpost: socket disconnected: " + string(e.Reason)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns e.Err.
func (e *DisconnectError) Unwrap() error { return e.Err }

// peerError turns what a handler returned into what its peer may see; logged tells that the rest belongs in the log.
func peerError(err error) (visible *Error, logged bool) {
	if coded, ok := errors.AsType[*Error](err); ok {
		return coded, false
	}
	return &Error{Code: CodeInternal, Message: "internal error"}, true
}

func marshalError(e *Error) []byte {
	b, err := json.Marshal(struct {
		Error *Error `json:"error"`
	}{e})
	if err != nil { // two strings always marshal
		panic(err)
	}
	return b
}
