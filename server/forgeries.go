package server

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// forgeries counts the handles that principals sent with a wrong signature. Guessing one is hopeless (2^-128 a try), but
// who tries a hundred in a minute is broken or up to something: its session ends, and the log has a line for people.
//
// Only those count that name this store: handles of an earlier run of a server without a key file are wrong too, and
// honest clients may have thousands of them.
type forgeries struct {
	log *slog.Logger

	mu      sync.Mutex
	started time.Time // of the minute that is counted
	count   map[forger]int
}

type forger struct {
	tenant    uint32
	principal string
}

// forgeriesRetry is how long a client whose session ended so shall stay away.
const forgeriesRetry = 10 * time.Second

// maxForgeries is how many a principal may send in a minute.
const maxForgeries = 100

// note counts one, and reports whether there are too many.
func (f *forgeries) note(id *broker.Identity, now time.Time) bool {
	f.mu.Lock()
	if now.Sub(f.started) >= time.Minute || f.count == nil {
		f.started, f.count = now, make(map[forger]int)
	}
	who := forger{id.Tenant, id.Principal}
	f.count[who]++
	n := f.count[who]
	f.mu.Unlock()
	if n == maxForgeries {
		f.log.Warn("handles with a wrong signature: somebody guesses, or damages what it passes on",
			slog.String("tenant", id.TenantName), slog.String("principal", id.Principal), slog.Int("count", n))
	}
	return n >= maxForgeries
}

// verify checks a handle's signature, tenant and expiry, and counts it if the signature is wrong.
func (c *caller) verify(h handles.Handle) error {
	err := c.srv.keys.Verify(h, c.id.Tenant, c.now)
	if errors.Is(err, handles.ErrInvalid) && h.Store() == c.tenure.broker.Store() {
		c.forging = c.srv.forgeries.note(&c.id, c.now) || c.forging
	}
	return err
}

// endForging answers what has been asked, so that a client that repeats what had no answer does not send it again, and
// returns why the session ends.
func (ss *session) endForging() error {
	ss.sendMu.Lock()
	defer ss.sendMu.Unlock()
	if err := ss.flush(); err != nil {
		return err
	}
	return errForgeries()
}

func errForgeries() *broker.Error {
	e := refuse(reasonTooManyForgeries, "", "over 100 handles with a wrong signature within a minute: pass handles on exactly as they came")
	e.RetryAfter = forgeriesRetry
	return e
}
