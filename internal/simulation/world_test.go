// Package simulation runs the whole of replyq in fake time: the real server and real clients over connections in memory
// that are split, delayed, stalled and cut in the midst of frames, as a seed says. What clients do follows from the seed
// as well. Afterwards everything that was noted is judged: see judge_test.go.
//
// One seed is run again by
//
//	go test ./internal/simulation -run 'TestSimulation$' -sim.seed N
//
// and more of them by -sim.seeds, from -sim.first on; `make simulation` runs all that CI does, without the race detector. A
// seed fixes what is done and what fails, not the order in which goroutines run: repeat a seed that failed with -count, and
// with -cpu 1,2.
package simulation_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/faultnet"
	"github.com/replyq/replyq/internal/testbed"
)

var (
	oneSeed   = flag.Uint64("sim.seed", 0, "run this seed only, and tell all that happens")
	seeds     = flag.Uint64("sim.seeds", defaultSeeds, "how many seeds to run")
	firstSeed = flag.Uint64("sim.first", 1, "the first of them")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSimulation runs whole histories and judges them.
func TestSimulation(t *testing.T) {
	if *oneSeed != 0 {
		simulate(t, *oneSeed)
		return
	}
	var all total
	t.Run("seeds", func(t *testing.T) {
		for worker := range uint64(4) {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for seed := *firstSeed + worker; seed < *firstSeed+*seeds; seed += 4 {
					all.add(simulate(t, seed))
				}
			})
		}
	})
	t.Logf("%d seeds: %d cuts, %d requests, %d deliveries (%d of them redeliveries)", *seeds, all.cuts, all.requests, all.deliveries, all.again)
	if *seeds >= 100 && (all.cuts < int(*seeds) || all.again == 0) {
		t.Error("the faults hit nobody: the simulation proves nothing")
	}
}

// A total adds up what happened in many simulations.
type total struct {
	mu                                sync.Mutex
	cuts, requests, deliveries, again int
}

func (a *total) add(h *record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	a.cuts += h.cuts
	a.requests += len(h.requests)
	for _, m := range h.messages {
		a.deliveries += len(m.deliveries)
		for _, attempt := range m.deliveries {
			if attempt > 1 {
				a.again++
			}
		}
	}
}

const (
	clients = 3
	// faulty is how many connections of each client fail; those after them are good. Their stalls together stay below
	// what a server remembers of a session that is gone.
	faulty   = 8
	maxStall = 2 * time.Second
	// long is a deadline that no fault makes pass.
	long = 10 * time.Minute
)

// queues are where the work is. Their names begin alike or not, so that with several shards some lie together.
var queues = []string{"a.1", "a.2", "b", "c"}

// A world is a server and its clients, while they live.
type world struct {
	t       *testing.T
	seed    uint64
	bed     *testbed.Bed
	clients []*client.Client
	dialers []*faultnet.Dialer
	h       *record
	// outages: some clients are cut off for longer than the server remembers what they did.
	outages bool
}

// simulate runs one seed and judges what happened.
func simulate(t *testing.T, seed uint64) *record {
	t.Helper()
	h := newRecord(t, seed)
	defer func() { // a bubble that fails does not return
		if t.Failed() {
			t.Logf("again: go test ./internal/simulation -run 'TestSimulation$' -sim.seed %d", seed)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, seed: seed, h: h}
		h.t = t
		w.open()
		w.live()
		w.judge()
	})
	return h
}

// random gives a source for one part of the world, the same for the same seed.
func (w *world) random(part string) *rand.Rand {
	var key [32]byte
	copy(key[:], fmt.Sprintf("%d/%s", w.seed, part))
	return rand.New(rand.NewChaCha8(key))
}

func (w *world) open() {
	r := w.random("world")
	shards := []int{1, 1, 3}[r.IntN(3)]
	w.outages = r.IntN(5) == 0
	w.bed = testbed.New(w.t, testbed.InMemory(), testbed.WithBroker(func(c *broker.Config) { c.Shards = shards }))
	for i := range clients {
		faults := w.random(fmt.Sprint("faults ", i))
		d := &faultnet.Dialer{
			Dial: func(ctx context.Context) (net.Conn, error) { return w.bed.DialMemory(ctx) },
			Plan: func(n int) faultnet.Plan {
				if n >= faulty {
					return faultnet.Plan{}
				}
				return drawPlan(faults)
			},
		}
		c, err := client.New(w.bed.Addr,
			client.WithDialOptions(grpc.WithContextDialer(d.DialContext)),
			client.WithSessions(1+r.IntN(2)),
			client.WithBackoff(client.Backoff{Initial: 5 * time.Millisecond, Max: 200 * time.Millisecond}))
		if err != nil {
			w.t.Fatal(err)
		}
		w.clients, w.dialers = append(w.clients, c), append(w.dialers, d)
	}
}

// drawPlan draws how a connection fails: mostly it is cut within some frames of its beginning.
func drawPlan(r *rand.Rand) faultnet.Plan {
	way := func() faultnet.Way {
		var w faultnet.Way
		if r.IntN(3) == 0 {
			w.Piece = 1 + r.IntN(40)
		}
		if r.IntN(3) == 0 {
			w.Delay = time.Duration(r.IntN(int(3 * time.Millisecond)))
		}
		at := int64(0)
		if r.IntN(4) == 0 {
			at = r.Int64N(1 << 12)
			w.Faults = append(w.Faults, faultnet.Fault{After: at, Stall: 1 + time.Duration(r.Int64N(int64(maxStall)))})
		}
		if r.IntN(2) == 0 {
			// The greetings and settings take some hundred bytes, which are worth a cut seldom.
			at += 1 << r.IntN(14)
			w.Faults = append(w.Faults, faultnet.Fault{After: at + r.Int64N(at)})
		}
		return w
	}
	return faultnet.Plan{Out: way(), In: way()}
}

// live lets workers work and callers call, until all callers are through; then the network heals and the rest is drained.
func (w *world) live() {
	ctx, stop := context.WithCancel(w.t.Context())
	defer stop()
	var workers, callers sync.WaitGroup
	for i, c := range w.clients {
		workers.Go(func() { w.work(ctx, i, c) })
	}
	workers.Go(func() { w.inOrder(ctx) })
	for i, c := range w.clients {
		for g := range 2 {
			callers.Go(func() { w.call(ctx, c, fmt.Sprintf("%d.%d", i, g)) })
		}
		callers.Go(func() { w.count(ctx, c, fmt.Sprint(i)) })
	}
	if w.outages {
		for i, d := range w.dialers {
			callers.Go(func() { outage(w.random(fmt.Sprint("outage ", i)), d) })
		}
	}
	callers.Wait()
	for _, d := range w.dialers {
		d.Heal()
	}
	w.drain()
	stop()
	workers.Wait()
	for i, c := range w.clients {
		w.h.cuts += len(w.dialers[i].Conns()) - 1
		if err := c.Close(); err != nil {
			w.t.Errorf("Close() = %v", err)
		}
	}
}

// outage may have everything vanish that a client sends and is sent, for seconds or minutes.
func outage(r *rand.Rand, d *faultnet.Dialer) {
	if r.IntN(2) == 0 {
		return
	}
	time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
	d.Swallow()
	time.Sleep(time.Duration(r.Int64N(int64(3 * time.Minute))))
	d.Heal()
}

// forgiven tells whether an error comes of an outage: nobody can know what became of the request.
func (w *world) forgiven(err error) bool {
	return w.outages && errors.Is(err, client.ErrOutcomeUnknown)
}

// drain waits until nothing is left in any queue: three times in a row, for what goes from shard to shard is in none for
// a moment.
func (w *world) drain() {
	limit := time.Now().Add(long)
	for empty := 0; empty < 3; {
		left := 0
		for _, q := range w.bed.Broker.QueueStatistics(1, "") {
			left += int(q.Ready + q.InFlight + q.Delayed)
		}
		if empty++; left > 0 {
			empty = 0
		}
		if time.Now().After(limit) {
			w.t.Errorf("after %v of a good network %d messages are left", long, left)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// over tells whether an error comes of the world's end.
func over(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, client.ErrClosed) || errors.Is(err, client.ErrDraining)
}
