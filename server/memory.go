package server

import (
	"log/slog"

	"github.com/replyq/replyq/broker"
)

// A memoryWatch tells people, once each time, that requests are refused for want of memory, and that memory is there again.
type memoryWatch struct {
	short   bool
	refused uint64 // when it looked last
	broker  *broker.Broker
}

func (w *memoryWatch) look(s *Server) {
	t := s.placed.Load().tenure
	if t == nil {
		return
	}
	if w.broker != t.broker {
		*w = memoryWatch{broker: t.broker}
	}
	used, limit, refused := t.broker.MemoryUsed(), t.broker.MemoryLimit(), t.broker.Overloads()
	switch {
	case !w.short && refused > w.refused:
		w.short = true
		s.log.Warn("memory is short: new messages and pipes are refused, see docs/limits.md; add consumers, or raise --memory-limit",
			slog.Int64("used", used), slog.Int64("limit", limit))
	case w.short && used < limit/100*broker.MemoryPressed:
		w.short = false
		s.log.Info("memory is not short any more", slog.Int64("used", used), slog.Uint64("refused", refused))
	}
	w.refused = refused
}
