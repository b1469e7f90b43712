package disk

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleLog takes what Pebble says. Its fatal words end the store and not the process, which is not Pebble's to end.
type pebbleLog struct{ s *Store }

// Infof implements [pebble.Logger].
func (l pebbleLog) Infof(format string, args ...any) { l.debug(format, args) }

// Errorf implements [pebble.Logger].
func (l pebbleLog) Errorf(format string, args ...any) { l.debug(format, args) }

// Fatalf implements [pebble.Logger]. Pebble takes it that this does not return.
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.s.fail(fmt.Errorf(format, args...))
	if l.s.gate.live.Load() {
		_ = l.s.gate.hold()
	}
}

func (l pebbleLog) debug(format string, args []any) {
	if l.s.log.Enabled(l.s.ctx, slog.LevelDebug) {
		l.s.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (s *Store) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: s.backgroundError,
		FlushEnd:        s.flushed,
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.fail(fmt.Errorf("%s is damaged: %w", info.Path, info.Details))
		},
	}
}
