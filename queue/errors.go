package queue

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrClosed reports that the broker is closed: nothing was stored.
	ErrClosed = errors.New("broker closed")

	// ErrUnknown reports that nobody can tell whether the event was stored. Publishing it again with the same id, within
	// the dedupe window, is safe: if it was stored the answer is its offset.
	ErrUnknown = errors.New("outcome unknown")

	// ErrNotFound reports that there is no such queue, topic or event, or none any more.
	ErrNotFound = errors.New("not found")

	// ErrUnavailable reports that the log can't be reached, has failed, or has not been read in yet: nothing was stored.
	ErrUnavailable = errors.New("log unavailable")
)

// Error is a refusal that depends on what was asked: nothing was stored or changed. [Code] lists the codes and says which of
// them will be refused for ever.
type Error struct {
	Code   string
	Detail string // for people

	// First is, with code "conflict", what was stored under the same id before.
	First Published
}

func (e *Error) Error() string { return e.Detail }

// Code returns the stable code of an error of this package, for peers and programs:
//
//	invalid_topic invalid_event invalid_id invalid_key invalid_ttl invalid_delay invalid_args
//	invalid_batch invalid_queue invalid_offset too_large
//	                                    it can never be accepted
//	conflict                            the id was published before, to the same topic, with another content
//	wrong_last                          the topic's last event is not the one that was expected
//	topic_full                          the topic has as many events as it may have, and refuses more
//	storage_full unavailable closed     the event was not stored
//	not_found                           there is no such queue, topic or event
//	queue_exclusive                     a consumer has the queue to itself
//	taken_over                          another consumer has taken the queue to itself
//	not_in_flight                       the event is settled, or was handed out again since
//	cancelled timeout                   the caller's context ended before the event was handed to the log
//	unknown_outcome                     the event may be stored
//	internal                            anything else
//
// It returns "" for nil.
func Code(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	for _, c := range []struct {
		err  error
		code string
	}{
		{ErrUnknown, "unknown_outcome"}, // first: it wraps what ended the wait
		{ErrFull, "storage_full"},
		{ErrClosed, "closed"},
		{ErrNotFound, "not_found"},
		{ErrUnavailable, "unavailable"},
		{context.Canceled, "cancelled"},
		{context.DeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "internal"
}

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}
