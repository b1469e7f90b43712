package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
)

// Config says what a replica has.
type Config struct {
	Store   *cluster.Store
	Node    string // its name, which no other replica has at the time
	Address string // where other replicas reach it
	Version string
	Keys    *handles.KeyRing
	Server  Server
	// Open makes a broker over the journals, which are this replica's by then. It owns them, also if it fails. If along is not
	// nil, it has read a part of them already.
	Open func(journals []journal.Journal, along *broker.Standby, lease func() bool) (*broker.Broker, error)
	Log  *slog.Logger
}

// A Server is told where calls are served. See [github.com/replyq/replyq/server.Server].
type Server interface {
	Own(b *broker.Broker)
	Relay(address string)
	SetReady(ready bool)
}

// A Replica takes part in a service. Its methods may be called from any goroutine.
type Replica struct {
	cfg      Config
	bucket   bucket
	election *election
	ctx      context.Context //nolint:containedctx // ends at Close
	cancel   context.CancelFunc
	stopped  chan struct{} // the loop has ended
	opened   chan opening
	leave    chan *goodbye
	view     atomic.Pointer[view]
	roster   roster

	// Of the loop.
	broker   *broker.Broker // while it serves
	opens    uint64         // the opening that is under way; 0: none is
	openings uint64         // so far
	abandon  func()         // ends the last one
	going    *goodbye       // nil until Leave is called
	standby  *standby       // nil unless this replica is, or was until now, the owner's heir
	declined string         // the boot of an owner whose logs cannot be read along
	resting  time.Time      // it does not take over before
	relays   string         // the owner's address that the server was told
	differs  string         // the node whose keys were found to be others
	unready  bool           // as the server was told
	ends     sync.WaitGroup // what goes on beside the loop: brokers that are being opened or closed, and stray
}

// An opening is a broker that was opened, or the reason why not.
type opening struct {
	id     uint64
	broker *broker.Broker
	err    error
}

const (
	// restTime is how long a replica does not take over after it could not.
	restTime = 5 * time.Second
	// giveWayTime is how long a replica that gives way looks for the next owner.
	giveWayTime = 5 * time.Second
	// alongTime is how long the heir has at most to read along.
	alongTime = 30 * time.Second
	// silentTime is how long a replica has not been heard of that is not alive.
	silentTime = 3 * time.Second
	// lostTime is how long the owner has kept nothing, in the bucket or the logs, that had better not be asked any more.
	lostTime = 5 * time.Second
)

// Join makes this process a replica: until [Replica.Close] the server is told where calls are served. It waits until NATS
// answers or ctx ends. It fails if the keys that sign handles are not those of the others.
func Join(ctx context.Context, cfg Config) (*Replica, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Replica{
		cfg: cfg, bucket: bucket{cfg.Store.Bucket(), cfg.Store.Conn()},
		stopped: make(chan struct{}), opened: make(chan opening), leave: make(chan *goodbye), abandon: func() {},
	}
	r.election = &election{
		register: r.bucket, me: Member{Node: cfg.Node, Address: cfg.Address, Version: cfg.Version}, boot: rand.Text(),
		keys: func() keys { return keysOf(cfg.Keys) }, times: defaultTimes, log: cfg.Log, now: time.Now, state: relaying,
	}
	c, err := first(ctx, r.bucket, defaultTimes, cfg.Log)
	if err == nil {
		err = keysOf(cfg.Keys).differ(c)
	}
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	r.election.heard()
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.show()
	r.ends.Go(r.stray)
	go r.run()
	return r, nil
}

func keysOf(ring *handles.KeyRing) keys {
	mint, accept := ring.Fingerprints()
	return keys{mint, accept}
}

// differ says so if handles of the claim's owner are refused by who has these keys, or the other way round.
func (k keys) differ(c claim) error {
	if c.Keys.Mint == "" || slices.Contains(k.Accept, c.Keys.Mint) && slices.Contains(c.Keys.Accept, k.Mint) {
		return nil
	}
	return fmt.Errorf("the keys that sign handles are others than those of the replica %q: give all replicas the same --key-file and "+
		"--cluster-name, and when keys change, let all accept a new one before any signs with it", c.Node)
}

// run is the replica's goroutine.
func (r *Replica) run() {
	defer close(r.stopped)
	ticker := time.NewTicker(r.election.times.look)
	defer ticker.Stop()
	for {
		r.election.step(r.ctx)
		r.act()
		r.show()
		var failed <-chan error
		if r.broker != nil {
			failed = r.broker.Failed()
		}
		select {
		case <-r.ctx.Done():
			return
		case <-ticker.C:
		case o := <-r.opened:
			r.serve(o)
		case err := <-failed:
			r.lost(err)
		case l := <-r.leave:
			r.giveWay(l)
		}
	}
}

// act does what follows from the claim.
func (r *Replica) act() {
	e := r.election
	if e.owns() {
		switch {
		case e.gave: // which step sees to
		case r.going != nil && r.going.heir != "":
			r.handOver()
		case r.broker != nil, r.opens != 0:
		case r.going != nil: // it was taken before, and that was not known
			e.release(r.ctx)
		default:
			r.open()
		}
		return
	}
	if e.gave { // that is kept by now: others have their turn
		e.gave = false
		r.resting = time.Now().Add(restTime)
	}
	r.deposed()
	r.follow()
	if r.going != nil {
		if e.claim.Node != "" {
			r.going.end()
		}
		return
	}
	r.prepare()
	if e.mayTake() && !time.Now().Before(r.resting) {
		r.cfg.Log.Info("taking over", slog.String("from", e.claim.Node))
		e.take(r.ctx)
	}
}

// show lets others see how it stands, and tells the server whether clients had better go elsewhere. A replica that relays is
// as ready as the one that it relays to, which the server finds out by itself.
func (r *Replica) show() {
	e := r.election
	e.tellChange(r.ctx)
	r.view.Store(&view{state: e.state, since: e.since, claim: e.claim, revision: e.revision, differs: r.differs})
	if unready := e.owns() && e.silence() > lostTime && r.cfg.Store.Silence() > lostTime; unready != r.unready {
		r.unready = unready
		r.cfg.Server.SetReady(!unready)
		if unready {
			r.cfg.Log.Warn("NATS has kept nothing for a while: this replica is not ready", slog.Duration("for", rounded(e.silence())))
		} else {
			r.cfg.Log.Info("this replica is ready again")
		}
	}
}

// follow tells the server where the owner is.
func (r *Replica) follow() {
	c := r.election.claim
	if c.deleted {
		return // its owner is about to make it again, and serves
	}
	if c.Address != r.relays {
		r.relays = c.Address
		r.cfg.Server.Relay(c.Address)
		if c.Node != "" {
			r.cfg.Log.Info("another replica serves", slog.String("node", c.Node), slog.String("address", c.Address))
		}
	}
	if c.Node == r.differs {
		return
	}
	r.differs = ""
	if err := keysOf(r.cfg.Keys).differ(c); err != nil {
		r.differs = c.Node
		r.cfg.Log.Error("handles of this replica and of the owner are refused by the other", slog.Any("error", err))
	}
}

// open takes all shards and opens a broker over them, beside the loop.
func (r *Replica) open() {
	r.openings++
	r.opens = r.openings
	r.election.state = restoring
	r.relays = ""
	r.cfg.Server.Relay("")
	id, along := r.opens, r.takeStandby()
	ctx, cancel := context.WithCancel(r.ctx)
	r.abandon = cancel
	r.ends.Go(func() {
		defer cancel()
		o := opening{id: id}
		o.broker, o.err = r.openBroker(ctx, along)
		if errors.Is(o.err, cluster.ErrNotFollowed) {
			r.cfg.Log.Info("what was read along is of no use", slog.Any("reason", o.err))
			o.broker, o.err = r.openBroker(ctx, nil)
		}
		select {
		case r.opened <- o:
		case <-r.ctx.Done():
			_ = r.end(o.broker)
		}
	})
}

// openBroker ends early when ctx does. If something was read along, it goes on from there.
func (r *Replica) openBroker(ctx context.Context, s *standby) (*broker.Broker, error) {
	take := r.cfg.Store.Take
	var along *broker.Standby
	if s != nil {
		along = s.state
		take = func(ctx context.Context, shard int) (journal.Journal, error) {
			return r.cfg.Store.TakeFollowed(ctx, shard, s.followers[shard])
		}
	}
	journals := make([]journal.Journal, r.cfg.Store.Shards())
	errs := make([]error, len(journals))
	var takes sync.WaitGroup
	for shard := range journals {
		takes.Go(func() { journals[shard], errs[shard] = take(ctx, shard) })
	}
	takes.Wait()
	closeAll := func() {
		for _, j := range journals {
			if j != nil {
				_ = j.Close() // nothing was written
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		closeAll()
		return nil, fmt.Errorf("take the shards over: %w", err)
	}
	defer context.AfterFunc(ctx, closeAll)() // what is being read ends
	return r.cfg.Open(journals, along, r.election.leased)
}

// serve serves what was opened, if it is still this replica's.
func (r *Replica) serve(o opening) {
	if o.id != r.opens {
		r.endBeside(o.broker)
		return
	}
	r.opens = 0
	if o.err != nil {
		r.failed("taking over failed", o.err)
		return
	}
	r.broker = o.broker
	r.election.state = serving
	r.cfg.Server.Own(o.broker)
	r.cfg.Log.Info("this replica serves")
	r.election.renew(r.ctx) // says so
}

// lost is called when a journal has ended.
func (r *Replica) lost(err error) {
	r.cfg.Server.Relay("")
	r.endBeside(r.broker)
	r.broker = nil
	r.failed("this replica serves no more", err)
}

// failed gives the claim up for a while.
func (r *Replica) failed(what string, err error) {
	r.election.state = r.idle()
	r.resting = time.Now().Add(restTime)
	if errors.Is(err, journal.ErrDeposed) {
		r.cfg.Log.Info(what+": another one has taken over", slog.Any("reason", err))
	} else {
		r.cfg.Log.Error(what, slog.Any("error", err))
	}
	r.election.release(r.ctx)
}

func (r *Replica) idle() state {
	if r.going != nil {
		return leaving
	}
	return relaying
}

// deposed ends what this replica has of a claim that is another one's by now.
func (r *Replica) deposed() {
	if r.broker == nil && r.opens == 0 {
		return
	}
	c := r.election.claim
	if c.deleted {
		r.cfg.Log.Warn("the claim was deleted from the bucket, and could not be made again at once")
	} else {
		r.cfg.Log.Warn("another replica has taken over: this one has not renewed its claim in time", slog.String("node", c.Node))
	}
	r.opens = 0
	r.abandon()
	r.election.state = r.idle()
	if r.broker != nil {
		if c.Address == "" {
			r.cfg.Server.Relay("") // follow does not: it has told so before
		}
		r.follow() // what is under way is cut off
		r.endBeside(r.broker)
		r.broker = nil
	}
}

// endBeside ends a broker without waiting for it.
func (r *Replica) endBeside(b *broker.Broker) {
	r.ends.Go(func() {
		if err := r.end(b); err != nil {
			r.cfg.Log.Warn("closing the journals", slog.Any("error", err))
		}
	})
}

// endTime is how long a broker may take to keep what is left.
const endTime = 2 * time.Second

func (r *Replica) end(b *broker.Broker) error {
	if b == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	if err := b.Leave(ctx); err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	return nil
}
