package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A listener is a cell that notes what a replica tells of itself.
type listener struct {
	*cell
	heard []string
}

func (l *listener) tell(_ context.Context, m Member) error {
	l.heard = append(l.heard, fmt.Sprint(m.State, " for ", m.For.Truncate(defaultTimes.look))) // looks take some milliseconds
	return nil
}

// TestChangesAreTold: what a replica does is told when it changes, and again with each beat, and so is since when.
func TestChangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{cell: &cell{rng: rand.New(rand.NewPCG(1, 1))}}
		e := newContender(l.cell, 0, 1).election
		e.register = l
		r := &Replica{cfg: Config{Log: slog.New(slog.DiscardHandler)}, election: e, ctx: t.Context()}
		r.show()
		r.show() // nothing is new
		e.state = serving
		r.show()
		changed := e.now()
		time.Sleep(e.times.beat)
		e.step(r.ctx)
		r.failed("failed", errors.New("for a test"))
		r.show()
		want := []string{"relaying for 0s", "serving for 0s", fmt.Sprint("serving for ", e.times.beat), "relaying for 0s"}
		if diff := cmp.Diff(want, l.heard); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if v := r.view.Load(); v.state != relaying || v.since.Before(changed.Add(e.times.beat)) {
			t.Errorf("the view has %q since %v, want relaying since %v or later", v.state, v.since, changed.Add(e.times.beat))
		}
	})
}
