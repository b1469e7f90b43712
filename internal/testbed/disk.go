package testbed

import (
	"sync"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
)

// A Disk keeps journals in memory. It hangs and fails at a test's will. The zero Disk is ready to use.
type Disk struct {
	mu   sync.Mutex
	hang chan struct{} // nil while all is well; closed to go on
	err  error
}

// Open opens the journal of a shard, which is empty. It is for [broker.Config].
func (d *Disk) Open(uint16) (journal.Journal, error) {
	return &journal.Memory{BeforeAppend: func([]byte) error {
		d.mu.Lock()
		hang, err := d.hang, d.err
		d.mu.Unlock()
		if hang != nil {
			<-hang
		}
		return err
	}}, nil
}

// Hang makes appends wait until GoOn.
func (d *Disk) Hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hang = make(chan struct{})
}

// GoOn lets all appends go on that wait. Calling it again does nothing.
func (d *Disk) GoOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hang != nil {
		close(d.hang)
		d.hang = nil
	}
}

// Fail makes later appends fail.
func (d *Disk) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// OnDisk gives the Bed's broker a journal on a disk.
func OnDisk(d *Disk) Option { return WithBroker(func(c *broker.Config) { c.Journal = d.Open }) }
