//go:build linux

package integration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/faultload"
)

// imageSize is as much as a store takes that is not yet worth tidying, and more.
const imageSize = 512 << 20

// The power is cut under load: what was confirmed is on the disk.
func TestP01PowerCuts(t *testing.T) {
	t.Parallel()
	const cycles = 2
	inShards(t, func(t *testing.T, shards string) {
		for range scaled(t, 1) {
			i := newImage(t, imageSize)
			r := newRigOf(t, i.server, []string{shards, "--data-dir", i.store()})
			n := r.begin()
			for range cycles {
				n.pass(700 * time.Millisecond)
				n.crash(func() { i.cutPower(n.server) })
			}
			n.finish(strict())
			r.kill()
			i.discard()
		}
	})
}

// With lazy fsyncs a power cut takes what was confirmed last, and nothing else. That something is lost shows that the
// test cuts the power at all.
func TestP01PowerCutsOfLazyServers(t *testing.T) {
	t.Parallel()
	const cycles, interval = 2, time.Second
	lost := 0
	for range scaled(t, 1) {
		i := newImage(t, imageSize)
		r := newRigOf(t, i.server, []string{"--data-dir", i.store(), "--fsync-interval", interval.String()})
		n := r.beginWith(faultload.Config{Lossy: true})
		c := r.quick()
		for cycle := range cycles {
			n.pass(2 * time.Second)
			enqueueMany(t.Context(), t, c, n.history, fmt.Sprintf("stored.%d", cycle), 100, 100, 1000)
			n.crash(func() { i.cutPower(n.server) })
		}
		lost += len(n.finish(lazy(interval)).LostPostfix)
		r.kill()
		i.discard()
	}
	if lost == 0 {
		t.Error("no power cut has lost anything: the tests of power cuts prove nothing")
	}
}
