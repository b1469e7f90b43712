package client

import (
	"math/rand/v2"
	"time"
)

const (
	backoffFactor = 1.5
	backoffJitter = 0.2

	// defaultBackoffMax, with jitter, is below what a server waits after a restart for consumers to come back.
	defaultBackoffMax = 3 * time.Second
)

// delays gives the waits between attempts.
type delays struct {
	Backoff
	next time.Duration
}

func (d *delays) reset() { d.next = 0 }

// wait returns how long to wait before the next attempt; at least, if the server named a time.
func (d *delays) wait(least time.Duration) time.Duration {
	if d.next == 0 {
		d.next = d.Initial
	}
	w := d.next
	d.next = min(time.Duration(float64(d.next)*backoffFactor), d.Max)
	return max(spread(w), least+time.Duration(rand.Float64()*backoffJitter*float64(least)))
}

// spread moves d by up to a fifth either way, so that many clients do not come at once.
func spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + backoffJitter*(2*rand.Float64()-1)))
}
