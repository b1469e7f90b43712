package replica

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// times are how long things take.
type times struct {
	beat  time.Duration // between two renewals
	look  time.Duration // between two looks at the claim
	try   time.Duration // one try of a read or a write
	lease time.Duration // how long a renewal is good
	dead  time.Duration // how long a claim stays as it is until its owner is taken for dead
}

var defaultTimes = times{ //nolint:gochecknoglobals // read only
	beat: 300 * time.Millisecond, look: 100 * time.Millisecond, try: time.Second, lease: 1500 * time.Millisecond, dead: 2 * time.Second,
}

// An election is a replica's part in deciding who is the owner. It is used by one goroutine, but for leased and silence.
type election struct {
	register register
	me       Member
	boot     string
	keys     func() keys
	times    times
	log      *slog.Logger
	now      func() time.Time

	state    state  // what this replica does
	heir     string // the node that this one is about to give way to
	ready    string // the boot of the owner whose logs this replica has read along
	claim    claim  // the newest that was seen
	revision uint64
	seen     time.Time // when it was first seen
	told     time.Time // when this replica last told of itself
	shown    state     // what it said then that it does
	since    time.Time // when that was new
	calm     time.Time // since when that was kept each time; zero: it was not, the last time
	beats    uint64
	sent     time.Time              // when the last beat was sent
	gave     bool                   // the claim is given up, as soon as that is kept
	last     atomic.Pointer[Member] // what this replica told of itself last
	until    atomic.Pointer[time.Time]
	kept     atomic.Pointer[time.Time] // when something that it had written was last kept
}

// silence is how long nothing was kept that this replica has written. It may be called from any goroutine.
func (e *election) silence() time.Duration {
	kept := e.kept.Load()
	if kept == nil {
		return 0
	}
	return e.now().Sub(*kept)
}

func (e *election) heard() {
	now := e.now()
	e.kept.Store(&now)
}

// leased reports whether nobody else can be the owner. It may be called from any goroutine.
func (e *election) leased() bool {
	until := e.until.Load()
	return until != nil && e.now().Before(*until)
}

// owns reports whether the claim is this replica's.
func (e *election) owns() bool { return e.claim.Node == e.me.Node && e.claim.Boot == e.boot }

// step does what is to be done now.
func (e *election) step(ctx context.Context) {
	if e.owns() {
		switch {
		case e.now().Sub(e.sent) < e.times.beat:
		case e.gave: // that was not kept when it was tried
			e.release(ctx)
		default:
			e.renew(ctx)
		}
	} else {
		e.look(ctx)
	}
	if e.now().Sub(e.told) >= e.times.beat {
		e.tell(ctx)
	}
}

// look reads the claim.
func (e *election) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, e.times.try)
	defer cancel()
	c, revision, err := e.register.read(ctx)
	if err != nil {
		e.trouble(err)
		return
	}
	e.saw(c, revision)
}

func (e *election) saw(c claim, revision uint64) {
	purged := revision == 0 && e.revision > 0 // with every trace; a server that lags so much only makes this replica wait
	if revision <= e.revision && !e.seen.IsZero() && !purged {
		return // an old answer, or nothing new
	}
	c.deleted = c.deleted || purged
	e.claim, e.revision, e.seen = c, revision, e.now()
}

// tellChange tells what this replica does now, unless it has: others need not wait for the next beat.
func (e *election) tellChange(ctx context.Context) {
	if e.state != e.shown {
		e.tell(ctx)
	}
}

// tell makes this replica known. Whether that is kept also shows whether the owner's renewals can be.
func (e *election) tell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, e.times.try)
	defer cancel()
	e.told = e.now()
	if e.state != e.shown {
		e.shown, e.since = e.state, e.told
	}
	m := e.me
	m.State, m.For, m.ready = string(e.state), e.told.Sub(e.since), e.ready
	e.last.Store(&m)
	if err := e.register.tell(ctx, m); err != nil {
		e.calm = time.Time{}
		e.trouble(err)
		return
	}
	e.heard()
	if e.calm.IsZero() {
		e.calm = e.now()
	}
}

// mayTake reports whether the owner has given way, or has to be taken for dead. A time in which nobody could renew a claim
// does not count. What an owner leaves to its heir is the heir's for as long as a lease. Who was the owner when the claim
// was deleted makes it again, or is dead too.
func (e *election) mayTake() bool {
	if e.owns() || e.seen.IsZero() || e.calm.IsZero() {
		return false
	}
	now := e.now()
	if c := &e.claim; c.Node == "" && !c.deleted {
		return c.Heir == "" || c.Heir == e.me.Node || now.Sub(e.seen) >= e.times.lease
	}
	return now.Sub(e.seen) >= e.times.dead && now.Sub(e.calm) >= e.times.dead
}

// take claims all shards.
func (e *election) take(ctx context.Context) {
	e.gave = false
	e.write(ctx, e.mine(restoring))
}

func (e *election) mine(s state) claim {
	return claim{Node: e.me.Node, Boot: e.boot, Address: e.me.Address, State: s, Keys: e.keys(), Heir: e.heir}
}

// renew keeps the claim. One that was deleted is made again at once, while the lease lasts: later it may have been another's.
func (e *election) renew(ctx context.Context) {
	until := e.until.Load()
	e.write(ctx, e.mine(e.state))
	if e.claim.deleted && until != nil && e.now().Before(*until) {
		e.log.Warn("the claim of this replica was deleted from the bucket: it is made again")
		e.write(ctx, e.mine(e.state))
	}
}

// release gives the claim up: the next owner need not wait. Nothing may be said any more that was read before. When that is not
// kept, step tries again.
func (e *election) release(ctx context.Context) {
	e.until.Store(nil)
	if e.owns() {
		e.gave = true
		e.write(ctx, claim{Keys: e.keys(), Heir: e.heir})
	}
}

func (e *election) write(ctx context.Context, c claim) {
	ctx, cancel := context.WithTimeout(ctx, e.times.try)
	defer cancel()
	e.beats++
	c.Beat = e.beats
	e.sent = e.now()
	until := e.sent.Add(e.times.lease)
	revision, err := e.register.write(ctx, c, e.revision)
	if err == nil {
		e.heard()
		e.saw(c, revision)
		if e.owns() {
			e.until.Store(&until)
		}
		return
	}
	if !errors.Is(err, errConflict) {
		e.trouble(err)
	}
	// Somebody else was quicker, or this one was: an earlier try, of which nothing was heard.
	e.look(ctx)
	if !e.owns() {
		e.until.Store(nil)
	}
}

// trouble is logged at most once a second.
func (e *election) trouble(err error) {
	e.log.Debug("the cluster does not answer", slog.Any("error", err))
}
