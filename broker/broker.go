package broker

import (
	"cmp"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replyq/replyq/journal"
)

// Config says how a broker works. The zero Config is a broker in memory with one shard.
type Config struct {
	// Shards is how many shards there are. Default 1.
	Shards int
	// Store names what is kept: tokens of another store are not known here. Default: drawn at random, so that each run
	// without a journal is a store of its own.
	Store uint32
	// Logger is where the broker reports what no client is told. Default: nowhere.
	Logger *slog.Logger
	// NoAutoCreate makes queues exist only when they are created.
	NoAutoCreate bool
	// MaxKeys is how many idempotency keys of a tenant are remembered at a time, in each shard. Default 1,000,000: about
	// 150 MB.
	MaxKeys int
	// MemoryLimit is how many bytes what is kept may take, see [Kept]. Over 70 % new messages and pipes of the tenants that
	// have most are refused, over 85 % all; what frees memory never is. Default: no limit.
	MemoryLimit int64
	// Quota bounds each tenant.
	Quota Quota
	// Journal opens a shard's journal. Default: none.
	Journal func(shard uint16) (journal.Journal, error)
	// JournalSlack is how many bytes more than what is live a shard's journal may have, and half of that, before what is live
	// is carried forward and the rest trimmed. Default 64 MiB.
	JournalSlack int64
	// Standby, if set, has read the journals along up to some point, of the same store and with as many shards: Open reads
	// only what follows. The broker owns it then.
	Standby *Standby
	// Restoring, if set, is called with each batch of a journal that [Open] has read; not by two goroutines at a time.
	Restoring func(Restored)
	// Lease, if set, reports whether this broker is sure to be still the owner of its journals. It is asked, after the state
	// was read, before anything is said that no append vouches for; while it says no, something is appended first. An owner
	// that takes over has taken all journals, and sees to it that Lease says no elsewhere, before it says anything. Lease
	// must be cheap, may be called from any goroutine, and must not call the broker. Default: always.
	Lease func() bool
	// JournalPatience is how long nothing may be kept until those who wait for it are cut off, see [Session.CutOff].
	// Default 2 s.
	JournalPatience time.Duration
	// MaxUnkept is how many bytes of facts of a shard may wait for its journal; with more, it takes no operations.
	// Default 8 MiB.
	MaxUnkept int
	// Now is the clock. It is asked once; from then on time runs on by itself, so that a clock that is set does not end
	// leases and pipes before their time, or keep them beyond it. Default: time.Now.
	Now func() time.Time
	// Elapsed tells how much time has passed since Now was asked. Default: by the monotonic clock.
	Elapsed func() time.Duration
	// Rand gives the seed for nonces. Default: crypto/rand.
	Rand io.Reader
}

// Restored is what was read of a shard's journal so far.
type Restored struct {
	Shard           uint16
	Bytes           int64
	Messages, Pipes int // that are there by now
}

// A Broker keeps queues and pipes. Its methods may be called from any goroutine.
type Broker struct {
	store   uint32
	now     func() time.Time
	log     *slog.Logger
	runners []*runner

	sessionsMu sync.Mutex
	sessions   map[string]*Session // live ones that can come back, by key
	// attachedNow are all live ones, to be cut off when another owner takes over; nil without a journal: nobody can then.
	attachedNow map[*Session]struct{}

	attached atomic.Uint64 // sessions so far
	budget   *budget

	wg       sync.WaitGroup // the goroutine that carries
	carryMu  sync.Mutex
	carrying bool
	toCarry  []*runner // that have something for other shards

	failed chan error            // cap 1
	over   atomic.Pointer[Error] // set when another owner takes over: with it everybody is cut off
	// leaving is set while over is, and what was accepted is still to be kept and said: nobody is cut off yet, or would miss
	// it.
	leaving atomic.Bool
}

// Open makes a broker and, with a journal, restores what was kept.
func Open(cfg Config) (*Broker, error) {
	b := &Broker{
		store: cfg.Store, log: cfg.Logger, sessions: make(map[string]*Session), budget: newBudget(cfg.MemoryLimit, cfg.Quota),
		failed: make(chan error, 1),
	}
	started, began := time.Now(), time.Now()
	if cfg.Now != nil {
		began = cfg.Now()
	}
	elapsed := cfg.Elapsed
	if elapsed == nil {
		elapsed = func() time.Duration { return time.Since(started) } // which is monotonic
	}
	b.now = func() time.Time { return began.Add(elapsed()) }
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	random := cfg.Rand
	if random == nil {
		random = crand.Reader
	}
	for b.store == 0 {
		var raw [4]byte
		if _, err := io.ReadFull(random, raw[:]); err != nil {
			return nil, fmt.Errorf("broker: draw a store number: %w", err)
		}
		b.store = binary.BigEndian.Uint32(raw[:])
	}
	if cfg.Journal != nil {
		b.attachedNow = make(map[*Session]struct{})
	}
	for i := range max(cfg.Shards, 1) {
		r, err := b.openRunner(uint16(i), cfg, random)
		if err != nil {
			return nil, errors.Join(err, b.closeJournals())
		}
		b.runners = append(b.runners, r)
	}
	if cfg.Journal != nil {
		if err := b.replay(cfg); err != nil {
			return nil, errors.Join(err, b.closeJournals())
		}
	}
	b.restore()
	for _, r := range b.runners {
		r.start()
	}
	return b, nil
}

func (b *Broker) openRunner(number uint16, cfg Config, random io.Reader) (*runner, error) {
	var seed [32]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, fmt.Errorf("broker: draw a seed: %w", err)
	}
	s := newShard(number, b.store, TimeOf(b.now()), rand.NewChaCha8(seed).Uint64)
	s.noAutoCreate = cfg.NoAutoCreate
	s.maxKeys = cmp.Or(cfg.MaxKeys, defaultMaxKeys)
	r := &runner{broker: b, number: number, shard: s, log: b.log}
	if cfg.Journal == nil {
		return r, nil
	}
	j, err := cfg.Journal(number)
	if err != nil {
		return nil, fmt.Errorf("broker: open the journal of shard %d: %w", number, err)
	}
	s.journalled = true
	r.keeper = newKeeper(r, j, &cfg)
	return r, nil
}

// Now is the time by the broker's clock.
func (b *Broker) Now() time.Time { return b.now() }

// Store is the store number: without a journal it names this run of the broker.
func (b *Broker) Store() uint32 { return b.store }

// shardOf places a queue: by its tenant and its name up to the first dot, so that queues named alike stay together.
func (b *Broker) shardOf(tenant uint32, queue string) uint16 {
	if len(b.runners) == 1 {
		return 0
	}
	name, _, _ := strings.Cut(queue, ".")
	return b.place(binary.BigEndian.AppendUint32([]byte(name), tenant))
}

// place spreads keys over the shards.
func (b *Broker) place(key []byte) uint16 {
	h := uint64(14695981039346656037) // FNV-1a
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return uint16((h ^ h>>32) % uint64(len(b.runners)))
}

// Drain makes the broker take nothing new: Enqueue, Consume and OpenPipe are refused with DRAINING, and no more
// deliveries are made. Everything else goes on.
func (b *Broker) Drain() {
	for _, r := range b.runners {
		r.run(func(s *shard) { s.drain() })
	}
}

// InFlight is how many deliveries have not been settled.
func (b *Broker) InFlight() uint64 {
	n := uint64(0)
	for _, r := range b.runners {
		r.run(func(s *shard) {
			for _, q := range s.st.queues {
				if q != nil {
					n += q.live.leasedN
				}
			}
		})
	}
	return n
}

// QueueStatistics returns all queues of a tenant whose names begin so, in no particular order. It does not stop the
// shards for long, and so is no snapshot.
func (b *Broker) QueueStatistics(tenant uint32, prefix string) []QueueInfo {
	const atOnce = 1000
	var all []QueueInfo
	for _, r := range b.runners {
		for from, more := 0, true; more; from += atOnce {
			more = false // unless the shard says so: it may be closed
			r.run(func(s *shard) {
				queues := s.st.queues[min(from, len(s.st.queues)):]
				if more = len(queues) > atOnce; more {
					queues = queues[:atOnce]
				}
				for _, q := range queues {
					if q != nil && !q.deleted && q.tenant == tenant && strings.HasPrefix(q.name, prefix) {
						all = append(all, s.queueInfo(q))
					}
				}
			})
		}
	}
	return all
}

// Shutdown drains. Without a journal every open pipe ends SHUTTING_DOWN, and its readers are told. With one, everything
// stays as it is for the next run: no operation is taken any more, sessions that close leave their leases and readers
// behind, and when Shutdown returns all that was accepted is kept, and its events wait in their sessions, unless the
// journal has stalled.
func (b *Broker) Shutdown() {
	b.Drain()
	for _, r := range b.runners {
		if r.keeper != nil {
			r.run(func(s *shard) { s.frozen = true })
			continue
		}
		for more := true; more; {
			r.run(func(s *shard) { more = s.endPipes(10_000) })
		}
	}
	for _, r := range b.runners {
		if r.keeper != nil {
			r.keeper.flush()
		}
	}
}

// Close keeps what is left, stops the broker's timers and goroutines, and closes its journals. Operations after it are
// dropped.
func (b *Broker) Close() error {
	var errs []error
	for _, r := range b.runners {
		errs = append(errs, r.close())
	}
	b.wg.Wait()
	return errors.Join(errs...)
}

// Contents is how much there is.
type Contents struct{ Queues, Messages, Pipes int }

// Contents counts what there is. It asks each shard in turn, and so is no snapshot.
func (b *Broker) Contents() (all Contents) {
	for _, r := range b.runners {
		r.run(func(s *shard) {
			for _, q := range s.st.queues {
				if q != nil && !q.deleted {
					all.Queues++
				}
			}
			all.Messages += s.st.messages.used()
			all.Pipes += s.st.pipes.used()
		})
	}
	return all
}
