package broker

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// replay rebuilds the shards from their journals: as many at a time as there are processors, since each has state and
// journal of its own.
func (b *Broker) replay(cfg Config) error {
	var (
		errs      = make([]error, len(b.runners))
		next      = make(chan *runner)
		replaying sync.WaitGroup
		told      sync.Mutex
	)
	if restoring := cfg.Restoring; restoring != nil {
		cfg.Restoring = func(r Restored) {
			told.Lock()
			defer told.Unlock()
			restoring(r)
		}
	}
	for range min(len(b.runners), runtime.GOMAXPROCS(0)) {
		replaying.Go(func() {
			for r := range next {
				errs[r.number] = r.replay(cfg.Restoring)
			}
		})
	}
	for _, r := range b.runners {
		next <- r
	}
	close(next)
	replaying.Wait()
	return errors.Join(errs...)
}

// replay rebuilds one shard.
func (r *runner) replay(restoring func(Restored)) error {
	st, log := r.shard.st, &r.keeper.log
	for record, err := range r.keeper.journal.Read(context.Background(), 0) {
		if err == nil {
			log.bytes += int64(len(record.Batch))
			err = st.replay(record.Batch)
			if restoring != nil {
				restoring(Restored{r.number, log.bytes, st.messages.used(), st.pipes.used()})
			}
		}
		if err != nil {
			return fmt.Errorf("broker: read the journal of shard %d: %w", r.number, err)
		}
	}
	if err := st.derive(); err != nil {
		return fmt.Errorf("broker: read the journal of shard %d: %w", r.number, err)
	}
	return nil
}

// closeJournals closes what was opened for a broker that does not come up.
func (b *Broker) closeJournals() error {
	var errs []error
	for _, r := range b.runners {
		if r.keeper != nil {
			errs = append(errs, r.keeper.journal.Close())
		}
	}
	return errors.Join(errs...)
}
