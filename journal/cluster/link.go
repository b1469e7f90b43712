package cluster

import (
	"context"
	"errors"
	"sync"
)

// errLinkLost is the end of a publish whose connection was lost: its answer will never come.
var errLinkLost = errors.New("the connection to NATS was lost before the answer came")

// A link is what waits for answers over a connection to NATS. An answer that was under way when the connection was lost does not
// come over the next one: whoever waits for it had better ask again. The zero link is ready to use.
type link struct {
	mu      sync.Mutex
	waiting map[*log]context.CancelFunc
}

// begin notes what ends the one publish of a log that is under way.
func (k *link) begin(l *log, cancel context.CancelFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waiting == nil {
		k.waiting = make(map[*log]context.CancelFunc)
	}
	k.waiting[l] = cancel
}

// end notes that it waits no longer, and reports whether its connection was lost meanwhile.
func (k *link) end(l *log) (lost bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, waits := k.waiting[l]
	delete(k.waiting, l)
	return !waits
}

// lost ends what waits. What has begun since over the next connection may be among it: it is sent again, and found to be kept.
func (k *link) lost() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for l, cancel := range k.waiting {
		cancel()
		delete(k.waiting, l)
	}
}
