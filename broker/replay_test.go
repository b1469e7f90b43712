package broker

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/replyq/replyq/journal"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run only this seed of the random histories")
	seedsFlag = flag.Int("seeds", 300, "how many random histories to run")
	stepsFlag = flag.Int("steps", 200, "how long each is")
)

// TestReplayRebuildsTheShard runs random histories and checks that the facts in each shard's journal, replayed, give the
// identical durable state, and so does what was read along meanwhile; and that what each shard keeps beside it is consistent.
func TestReplayRebuildsTheShard(t *testing.T) {
	seeds := make([]uint64, 0, *seedsFlag)
	for i := range *seedsFlag {
		seeds = append(seeds, uint64(i+1))
	}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	trimmed, behind := 0, 0
	for _, seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t, seed, 1+int(seed%3))
			for range *stepsFlag {
				h.step()
			}
			h.check()
			trimmed += h.trimmed()
			behind += h.behindTrimmed()
			if t.Failed() {
				t.Logf("run again with: go test ./broker -run %s -seed %d", t.Name(), seed)
			}
			h.close()
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d journals were trimmed, %d of them behind who read along", trimmed, behind)
	if trimmed < len(seeds)/3 || behind < len(seeds)/10 {
		t.Errorf("%d journals were trimmed in %d histories, %d of them behind who read along", trimmed, len(seeds), behind)
	}
}

// behindTrimmed is how many journals have lost something that the standby had read.
func (h *history) behindTrimmed() (n int) {
	for i := range h.journals {
		if first := h.first(i); h.standby.shards[i].next > first && h.begun[i] < first {
			n++
		}
	}
	return n
}

// first is the position of the first batch that a journal has; 0 if it has none.
func (h *history) first(shard int) journal.Position {
	for r, err := range h.journals[shard].Read(h.t.Context(), 0) {
		if err != nil {
			h.t.Fatal(err)
		}
		return r.Position
	}
	return 0
}

// readAlong has the standby read what there is by now, or begin anew if it comes too late for that.
func (h *history) readAlong() {
	for i, j := range h.journals {
		first := h.first(i)
		if s := &h.standby.shards[i]; s.next < first {
			*s, h.begun[i] = standbyShard{st: newState(uint16(i), h.b.store)}, first
		}
		if err := h.standby.Replay(i, j.Read(h.t.Context(), h.standby.shards[i].next)); err != nil {
			h.t.Fatal(err)
		}
	}
}

// trimmed is how many journals have lost their head.
func (h *history) trimmed() (n int) {
	for i := range h.journals {
		if h.first(i) > 1 {
			n++
		}
	}
	return n
}

// check compares each shard with what its journal gives.
func (h *history) check() {
	h.t.Helper()
	h.calm.Store(true)
	if h.temper.restarts { // what was leased before one is not any more
		<-time.After(orphanWait + time.Minute)
	}
	<-time.After(30 * time.Second) // all appends have ended, and nothing is put off any more because of one that took too long
	synctest.Wait()
	h.checkEdges()
	h.checkForeign()
	h.readAlong()
	for i, r := range h.b.runners {
		r.mu.Lock()
		replayed := newState(r.number, h.b.store)
		facts := 0
		for record, err := range h.journals[i].Read(context.Background(), 0) {
			if err == nil {
				err = replayed.replay(record.Batch)
			}
			if err != nil {
				h.t.Fatal(err)
			}
			facts++
		}
		if err := replayed.derive(); err != nil {
			h.t.Fatal(err)
		}
		along := h.standby.shards[i].st
		if err := along.derive(); err != nil {
			h.t.Fatal(err)
		}
		if facts == 0 && r.shard.st.messages.top > 0 {
			h.t.Errorf("shard %d: nothing was journalled", i)
		}
		same := cmp.Options{cmpopts.EquateEmpty(), inAnyOrder(), cmp.AllowUnexported(
			durableState{}, queue{}, message{}, pipe{}, pipeConfig{}, content{}, pipeRare{}, pipeRef{}, carriers{}, carrier{}, carrierRef{}, reply{}, carriedHandle{}, feed{}, byID{},
			messageExtras{}, attempt{}, outcomes{}, outcome{}, settledLease{}, sentEntry{}, usedKey{}, keyRef{}, relatives{}, freeQueue{},
		), cmpopts.IgnoreTypes(liveQueue{}, liveMessage{}, liveExtras{}, livePipe{}, liveOutcomes{})}
		if diff := cmp.Diff(durable(r.shard.st), durable(replayed), same); diff != "" {
			h.t.Errorf("shard %d: replayed state differs (-live +replayed):\n%s", i, diff)
		}
		if diff := cmp.Diff(durable(r.shard.st), durable(along), same); diff != "" {
			h.t.Errorf("shard %d: the state that was read along differs (-live +along):\n%s", i, diff)
		}
		for _, st := range []*state{replayed, along} {
			if d := durable(st); st.messages.replayed != len(d.messages) || st.pipes.replayed != len(d.pipes) {
				h.t.Errorf("shard %d: a replay counted %d messages and %d pipes, but there are %d and %d",
					i, st.messages.replayed, st.pipes.replayed, len(d.messages), len(d.pipes))
			}
		}
		checkConsistent(h.t, r.shard, false)
		restored := newShard(r.number, h.b.store, r.shard.now, h.rand.Uint64)
		restored.st = replayed
		restored.restore()
		checkConsistent(h.t, restored, true)
		r.mu.Unlock()
	}
}

// inAnyOrder compares what has no order, or no certain one among things of the same time.
func inAnyOrder() cmp.Option {
	return cmp.Options{
		cmp.Transformer("carriers", func(c carriers) (all []carrier) {
			for i := range c.len() {
				all = append(all, *c.at(i))
			}
			slices.SortFunc(all, func(a, b carrier) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			return all
		}),
		cmp.Transformer("rare", func(r *pipeRare) pipeRare {
			if r == nil {
				return pipeRare{}
			}
			return *r
		}),
		cmpopts.IgnoreFields(content{}, "one"), // memory of replies
		cmpopts.SortSlices(func(a, b settledLease) bool { return cmpSettled(a, b) < 0 }),
	}
}

// durableState is a state without the order in which slots became free.
type durableState struct {
	queues   []queue
	free     []freeQueue
	messages []message
	pipes    []pipe
	sessions []*outcomes
	inbox    map[uint16]uint64
	outbox   []sentEntry
	settled  []settledLease
	keys     []usedKey
	related  map[uint32]*relatives
	order    uint64
}

type sentEntry struct {
	target uint16
	last   uint64
	left   int
}

func durable(st *state) durableState {
	d := durableState{sessions: st.sessions, inbox: st.inbox, settled: st.settled.entries[st.settled.start:], keys: st.keys.entries[st.keys.start:], related: st.relatives, order: st.order}
	for n := len(d.sessions); n > 0 && d.sessions[n-1] == nil; n-- { // a trimmed journal does not tell of those forgotten last
		d.sessions = d.sessions[:n-1]
	}
	d.free = st.freeQueues
	for _, q := range st.queues {
		if q != nil {
			one := *q
			one.dead = slices.Sorted(slices.Values(q.dead))
			d.queues = append(d.queues, one)
		}
	}
	for slot := uint32(1); slot <= st.messages.top; slot++ {
		if m := *st.messages.at(slot); m.state > messageReserved {
			d.messages = append(d.messages, m)
		}
	}
	for slot := uint32(1); slot <= st.pipes.top; slot++ {
		if p := *st.pipes.at(slot); p.state != pipeFree {
			if p.content != nil { // where its replies lie does not matter
				c := *p.content
				c.replies, c.head = c.kept(), 0
				p.content = &c
			}
			d.pipes = append(d.pipes, p)
		}
	}
	for target := range uint16(8) {
		if o := st.outbox[target]; o != nil {
			d.outbox = append(d.outbox, sentEntry{target, o.last, len(o.entries)})
		}
	}
	return d
}
