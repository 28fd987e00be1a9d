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

	// ErrDeleted reports that the queue was deleted; [Broker.Queue] makes a new one.
	ErrDeleted = errors.New("queue deleted")

	// ErrUnavailable reports that the log can't be reached, has failed, or has not been read in yet: nothing was stored.
	ErrUnavailable = errors.New("log unavailable")
)

// InvalidError reports an argument that can never be accepted: nothing was stored, and nothing will be if it is tried again.
type InvalidError struct {
	Code   string // "invalid_topic", "invalid_event", "invalid_id", "invalid_args", "invalid_queue", "invalid_offset", "too_large"
	Detail string // what is wrong with it
}

func (e *InvalidError) Error() string { return e.Detail }

// ConflictError reports that the id was published before, to the same topic, with another name, other arguments or other
// attachments. First is what was stored then; the event of this call was not stored.
type ConflictError struct {
	First Published
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("id %q was published before with another content, at %s", e.First.ID, e.First.Offset)
}

// RejectError makes [Queue.Consume] give an event up: it becomes a dead letter with the reason.
type RejectError struct {
	Reason string
}

func (e *RejectError) Error() string { return "rejected: " + e.Reason }

// Code returns the stable code of an error of this package, for peers and programs:
//
//	invalid_topic invalid_event invalid_id invalid_args invalid_queue invalid_offset too_large
//	conflict storage_full unavailable closed          the event was not stored
//	queue_deleted                                     there is no such queue any more
//	cancelled timeout                                 the caller's context ended before the event was handed to the log
//	unknown_outcome                                   the event may be stored
//	internal                                          anything else
//
// It returns "" for nil.
func Code(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*InvalidError](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[*ConflictError](err); ok {
		return "conflict"
	}
	for _, c := range []struct {
		err  error
		code string
	}{
		{ErrUnknown, "unknown_outcome"}, // first: it wraps what ended the wait
		{ErrFull, "storage_full"},
		{ErrClosed, "closed"},
		{ErrDeleted, "queue_deleted"},
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

func invalid(code, format string, args ...any) *InvalidError {
	return &InvalidError{Code: code, Detail: fmt.Sprintf(format, args...)}
}
