package replica

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag = flag.Uint64("election.seed", 0, "seed of one random election; 0 draws")
	runsFlag = flag.Int("election.runs", 60, "how many random elections")
)

var errLost = errors.New("lost")

// A cell is a register as a cluster has it: writes are one after the other, requests and answers take their time or are
// lost, and reads may come from a server that lags.
type cell struct {
	mu       sync.Mutex
	claims   []claim // by revision, from 1
	rng      *rand.Rand
	faulty   bool // requests are lost and slow
	noQuorum bool // nothing is written
}

// draw draws how long a request or an answer is under way, and whether it is lost.
func (c *cell) draw() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := time.Duration(c.rng.IntN(3)) * time.Millisecond
	if !c.faulty {
		return d, false
	}
	if c.rng.IntN(8) == 0 {
		d = time.Duration(c.rng.IntN(3000)) * time.Millisecond
	}
	return d, c.rng.IntN(12) == 0
}

// wait is a request's or an answer's way. It reports whether it arrives.
func (c *cell) wait(ctx context.Context) bool {
	d, lost := c.draw()
	if lost {
		<-ctx.Done()
		return false
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *cell) read(ctx context.Context) (claim, uint64, error) {
	if !c.wait(ctx) {
		return claim{}, 0, errLost
	}
	c.mu.Lock()
	n := len(c.claims)
	if c.faulty {
		n = max(0, n-c.rng.IntN(3))
	}
	var found claim
	if n > 0 {
		found = c.claims[n-1]
	}
	c.mu.Unlock()
	if !c.wait(ctx) {
		return claim{}, 0, errLost
	}
	return found, uint64(n), nil
}

// write goes on by itself when who asked does not wait any more.
func (c *cell) write(ctx context.Context, next claim, revision uint64) (uint64, error) {
	done := make(chan error, 1)
	go func() {
		d, lost := c.draw()
		time.Sleep(d)
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case lost, c.noQuorum:
		case uint64(len(c.claims)) != revision:
			done <- errConflict
		default:
			c.claims = append(c.claims, next)
			done <- nil
		}
	}()
	select {
	case err := <-done:
		if !c.wait(ctx) {
			return 0, errLost
		}
		return revision + 1, err
	case <-ctx.Done():
		return 0, errLost
	}
}

func (c *cell) tell(ctx context.Context, _ Member) error {
	c.mu.Lock()
	no := c.noQuorum
	c.mu.Unlock()
	if no || !c.wait(ctx) || !c.wait(ctx) {
		return errLost
	}
	return nil
}

// A contender is a replica of which only the election is there. Its clock runs at a speed of its own, and it is stopped
// now and then, as by SIGSTOP.
type contender struct {
	*election
	began time.Time
	speed float64
	runs  chan struct{} // cap 1: it is empty while the process is stopped
}

func newContender(c *cell, i int, speed float64) *contender {
	p := &contender{began: time.Now(), speed: speed, runs: make(chan struct{}, 1)}
	p.runs <- struct{}{}
	p.election = &election{
		register: c, me: Member{Node: fmt.Sprint("r", i)}, boot: fmt.Sprint("b", i), keys: func() keys { return keys{} },
		times: defaultTimes, log: slog.New(slog.DiscardHandler), state: relaying,
		now: func() time.Time { return p.began.Add(time.Duration(float64(time.Since(p.began)) * p.speed)) },
	}
	return p
}

// heirs are whom an owner may give way to.
var heirs = []string{"", "r0", "r1", "r2", "gone"}

func (p *contender) run(ctx context.Context, yields func() bool) {
	for ctx.Err() == nil {
		p.step(ctx)
		p.runs <- <-p.runs // waits while it is stopped
		switch {
		case p.owns() && yields():
			p.heir = heirs[p.beats%uint64(len(heirs))]
			p.release(ctx)
			p.heir = ""
		case p.mayTake():
			p.take(ctx)
		}
		time.Sleep(p.times.look)
	}
}

// TestOneLease: whatever is lost, slow or stopped, two replicas never have a lease at the same time; and when all is well
// again one has.
func TestOneLease(t *testing.T) {
	changes := 0
	for i := range *runsFlag {
		seed := *seedFlag
		if seed == 0 {
			seed = rand.Uint64()
		} else if i > 0 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			changes += oneLease(t, seed)
		})
	}
	if changes < 2**runsFlag {
		t.Errorf("%d changes of the owner in %d runs: hardly anything was tried", changes, *runsFlag)
	}
}

// oneLease returns how many changes of the owner there were.
func oneLease(t *testing.T, seed uint64) int {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := &cell{rng: rand.New(rand.NewPCG(seed, 2)), faulty: true}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var draw sync.Mutex
	contenders := make([]*contender, 3)
	for i := range contenders {
		contenders[i] = newContender(c, i, 0.88+0.24*rng.Float64())
		all.Go(func() {
			contenders[i].run(ctx, func() bool {
				draw.Lock()
				defer draw.Unlock()
				return c.isFaulty() && rng.IntN(400) == 0
			})
		})
	}
	changes, last := 0, -1
	look := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(7 * time.Millisecond) {
			holders := 0
			for i, p := range contenders {
				if !p.leased() {
					continue
				}
				holders++
				if last != i {
					last, changes = i, changes+1
				}
			}
			if holders > 1 {
				t.Fatalf("two replicas have a lease (-election.seed=%d)", seed)
			}
		}
	}
	for range 40 {
		draw.Lock()
		p, what, d := contenders[rng.IntN(len(contenders))], rng.IntN(5), time.Duration(rng.IntN(6000))*time.Millisecond
		draw.Unlock()
		switch what {
		case 0:
			running := <-p.runs
			look(d)
			p.runs <- running
		case 1:
			c.set(true, true)
			look(d)
			c.set(true, false)
		case 2:
			c.remove()
			look(d)
		default:
			look(d)
		}
	}
	c.set(false, false)
	look(20 * time.Second)
	holders := 0
	for _, p := range contenders {
		if p.leased() {
			holders++
		}
	}
	if holders != 1 {
		t.Errorf("%d replicas have a lease when all is well (-election.seed=%d)", holders, seed)
	}
	cancel()
	all.Wait()
	return changes
}

func (c *cell) isFaulty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faulty
}

// remove is what an operator does who deletes the claim.
func (c *cell) remove() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = append(c.claims, claim{deleted: true})
}

// last is the claim as it is.
func (c *cell) last() claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims[len(c.claims)-1]
}

func (c *cell) set(faulty, noQuorum bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faulty, c.noQuorum = faulty, noQuorum
}
