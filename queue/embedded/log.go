package embedded

import (
	"fmt"
	"log/slog"
	"sync"
)

// natsLog hands the server's lines to slog. Its notices are news to nobody but us, so they are debug lines.
type natsLog struct {
	log *slog.Logger

	mu    sync.Mutex
	fatal error // the first line with which the server gave up
}

func (l *natsLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *natsLog) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *natsLog) Tracef(string, ...any)           {}
func (l *natsLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *natsLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }

// Fatalf must not end the process, as the server's own logger does: Start and Health report the error.
func (l *natsLog) Fatalf(format string, v ...any) {
	err := fmt.Errorf(format, v...)
	l.mu.Lock()
	if l.fatal == nil {
		l.fatal = err
	}
	l.mu.Unlock()
	l.log.Error(err.Error())
}

func (l *natsLog) gaveUp() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}
