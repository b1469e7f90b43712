package replica

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestReleaseIsRepeated: a replica that gives the claim up while the cluster keeps nothing tries again until it has, opens
// nothing meanwhile, and leaves it to others for a while.
func TestReleaseIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cell{rng: rand.New(rand.NewPCG(1, 1))}
		e := newContender(c, 0, 1).election
		r := &Replica{cfg: Config{Log: slog.New(slog.DiscardHandler)}, election: e, ctx: t.Context(), abandon: func() {}}
		e.step(r.ctx)
		e.take(r.ctx)
		if !e.leased() {
			t.Fatal("it has no lease")
		}
		// until steps as the loop does, and opens nothing.
		until := func(what string, f func() bool) {
			t.Helper()
			for limit := time.Now().Add(time.Minute); !f(); time.Sleep(e.times.look) {
				if time.Now().After(limit) {
					t.Fatalf("not within a minute: %s", what)
				}
				e.step(r.ctx)
				r.act()
				if r.opens != 0 || e.leased() && c.last().Node == "" {
					t.Fatal("it goes on with what it has given up")
				}
			}
		}
		c.set(false, true)
		r.failed("failed", errors.New("for a test"))
		tried := e.beats
		until("two more tries", func() bool { return e.beats >= tried+2 })
		if c.last().Node == "" {
			t.Fatal("a cluster that keeps nothing has kept something")
		}
		c.set(false, false)
		until("the claim is given up", func() bool { return c.last().Node == "" })
		released := time.Now()
		for ; time.Since(released) < restTime-e.times.look; time.Sleep(e.times.look) {
			e.step(r.ctx)
			r.act()
			if e.owns() {
				t.Fatalf("it takes the claim again after %v", time.Since(released))
			}
		}
	})
}

// TestClosingRepeatsRelease: so does one that ends.
func TestClosingRepeatsRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cell{rng: rand.New(rand.NewPCG(1, 1))}
		e := newContender(c, 0, 1).election
		e.step(t.Context())
		e.take(t.Context())
		c.set(false, true)
		again := time.AfterFunc(e.times.try+e.times.try/2, func() { c.set(false, false) }) // the first try has failed by then
		defer again.Stop()
		(&Replica{election: e}).release(t.Context())
		if got := c.last(); got.Node != "" {
			t.Errorf("the claim is %+v, want it to be nobody's", got)
		}
	})
}
