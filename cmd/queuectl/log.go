package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
)

// logger is for the client. With --verbose everything is logged; else a person is told what goes wrong, once the server
// has answered: what goes wrong before is connect's to tell.
func (a *app) logger() (log *slog.Logger, connected func()) {
	if a.Verbose {
		return slog.New(slog.NewTextHandler(lockedWriter{a}, &slog.HandlerOptions{Level: slog.LevelDebug})), func() {}
	}
	h := &personHandler{app: a}
	return slog.New(h), func() { h.on.Store(true) }
}

// personHandler writes warnings as notes: a line each, and what is repeated, such as failed attempts to connect, once.
type personHandler struct {
	app *app
	on  atomic.Bool

	mu   sync.Mutex
	last string
}

// Enabled implements slog.Handler.
func (h *personHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.on.Load() && level >= slog.LevelWarn
}

// Handle implements slog.Handler.
func (h *personHandler) Handle(_ context.Context, record slog.Record) error {
	h.mu.Lock()
	repeated := record.Message == h.last
	h.last = record.Message
	h.mu.Unlock()
	if repeated {
		return nil
	}
	text := record.Message
	record.Attrs(func(attr slog.Attr) bool {
		text += ", " + attr.Key + " " + attr.Value.String()
		return true
	})
	h.app.note("%s", text)
	return nil
}

// WithAttrs implements slog.Handler. The client has none that are common.
func (h *personHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h *personHandler) WithGroup(string) slog.Handler { return h }
