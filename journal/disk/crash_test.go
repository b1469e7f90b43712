package disk

import (
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replyq/replyq/journal"
)

var (
	seedFlag  = flag.Uint64("disk.seed", 0, "seed of the random tests; 0: a new one each time")
	crashFlag = flag.Int("disk.crashes", 40, "how often the crash test cuts the power")
)

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("replay with -args -disk.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// A shardModel is what is known of a shard's journal from outside.
type shardModel struct {
	mu       sync.Mutex
	tried    journal.Position // the last batch whose Append began
	kept     journal.Position // and the last one confirmed
	trimming journal.Position // the last Trim that began
	trimmed  journal.Position // and the last one that returned
}

func (m *shardModel) get() shardModel {
	m.mu.Lock()
	defer m.mu.Unlock()
	return shardModel{tried: m.tried, kept: m.kept, trimming: m.trimming, trimmed: m.trimmed}
}

// work appends and trims until an error, and says each time what it does before and after.
func (m *shardModel) work(t testing.TB, j journal.Journal, shard int, rng *rand.Rand, step func()) {
	for {
		m.mu.Lock()
		p := m.tried + 1
		m.tried = p
		m.mu.Unlock()
		got, err := j.Append(t.Context(), content(shard, p))
		if err != nil {
			return
		}
		if got != p {
			t.Errorf("shard %d: batch %d got position %d", shard, p, got)
		}
		m.mu.Lock()
		m.kept = p
		m.mu.Unlock()
		if rng.IntN(20) == 0 {
			before := m.trimmed + journal.Position(rng.Uint64N(uint64(p-m.trimmed)+1))
			m.mu.Lock()
			m.trimming = max(m.trimming, before)
			m.mu.Unlock()
			if j.Trim(t.Context(), before) != nil {
				return
			}
			m.mu.Lock()
			m.trimmed = max(m.trimmed, before)
			m.mu.Unlock()
		}
		step()
	}
}

// TestPowerCuts cuts the power again and again: what was written and not synced is there, in part, or not. Everything
// confirmed is there afterwards, in order, and nothing else but what was under way.
func TestPowerCuts(t *testing.T) { cutAgainAndAgain(t, 0) }

// Of a store that is fsynced from time to time the end is lost, and nothing else.
func TestPowerCutsOfALazyStore(t *testing.T) { cutAgainAndAgain(t, 20*time.Millisecond) }

func cutAgainAndAgain(t *testing.T, interval time.Duration) {
	t.Helper()
	noLeaks(t)
	rng := newRand(t)
	const shards = 3
	fs := vfs.NewCrashableMem()
	models := make([]*shardModel, shards)
	for i := range models {
		models[i] = &shardModel{}
	}
	lost := 0
	for cycle := range *crashFlag {
		o := small(fs, shards)
		o.FsyncInterval = interval
		s := mustOpen(t, o)
		for shard, m := range models {
			if interval > 0 {
				m.kept = max(m.trimmed, 1) - 1 // is known to be on the disk
			}
			lost += recovered(t, s, shard, m)
		}
		if t.Failed() {
			t.Fatalf("in cycle %d", cycle)
		}
		next := cutWhileWorking(t, s, fs, models, rng)
		fs = next
	}
	t.Logf("%d cuts left %d batches on the way unkept", *crashFlag, lost)
	if lost == 0 && *crashFlag > 20 {
		t.Error("no cut lost a batch that was under way: the test does not cut")
	}
}

// recovered compares a shard with its model, and sets the model to what is there.
func recovered(t testing.TB, s *Store, shard int, m *shardModel) (lost int) {
	t.Helper()
	first, last, err := readAll(t, s, shard)
	if err != nil {
		t.Fatalf("shard %d: %v", shard, err)
	}
	_, end, err := s.bounds(uint16(shard))
	if err != nil {
		t.Fatal(err)
	}
	if end < m.kept || end > m.tried {
		t.Errorf("shard %d ends at %d: %d were confirmed, %d tried", shard, end, m.kept, m.tried)
	}
	if last != 0 && (last != end || first < m.trimmed || first > max(m.trimming, 1)) {
		t.Errorf("shard %d has %d to %d: it ends at %d, trimmed %d, perhaps %d", shard, first, last, end, m.trimmed, m.trimming)
	}
	lost = int(m.tried - end)
	*m = shardModel{tried: end, kept: end, trimming: max(first, m.trimmed), trimmed: max(first, m.trimmed)}
	return lost
}

// cutWhileWorking has all shards work, takes what a power cut would leave at a random moment, and stops them.
func cutWhileWorking(t testing.TB, s *Store, fs *vfs.MemFS, models []*shardModel, rng *rand.Rand) *vfs.MemFS {
	t.Helper()
	steps := make(chan struct{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for shard, m := range models {
		j := mustJournal(t, s, shard)
		own := rand.New(rand.NewPCG(rng.Uint64(), 2))
		wg.Go(func() {
			m.work(t, j, shard, own, func() {
				select {
				case steps <- struct{}{}:
				case <-stop:
				}
			})
		})
	}
	for range rng.IntN(400) {
		<-steps
	}
	close(stop)
	before := make([]shardModel, 0, len(models))
	for _, m := range models {
		before = append(before, m.get())
	}
	cut := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	after := make([]shardModel, 0, len(models))
	for _, m := range models {
		after = append(after, m.get())
	}
	closeStore(t, s)
	wg.Wait()
	for i, m := range models {
		// Confirmed before the cut has to be there; begun after it cannot be.
		*m = shardModel{kept: before[i].kept, trimmed: before[i].trimmed, tried: after[i].tried, trimming: after[i].trimming}
	}
	return cut
}
