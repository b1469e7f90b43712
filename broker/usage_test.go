package broker

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkUsage counts again what a shard keeps.
func checkUsage(t *testing.T, s *shard) {
	t.Helper()
	st := s.st
	type used struct {
		Bytes [keptKinds]int64
		Pipes int64
	}
	want := make(map[uint32]used)
	add := func(tenant uint32, k Kept, bytes, pipes int) {
		u := want[tenant]
		u.Bytes[k] += int64(bytes)
		u.Pipes += int64(pipes)
		want[tenant] = u
	}
	for _, q := range st.queues {
		if q != nil {
			add(q.tenant, KeptMessages, queueSize, 0)
		}
	}
	for slot := uint32(1); slot <= st.messages.top; slot++ {
		if m := st.messages.at(slot); m.state > messageReserved && st.queues[m.queue] != nil {
			add(st.queues[m.queue].tenant, KeptMessages, m.size(), 0)
		}
	}
	for slot := uint32(1); slot <= st.pipes.top; slot++ {
		p := st.pipes.at(slot)
		if p.state == pipeFree {
			continue
		}
		open := 0
		if p.state != pipeEnded {
			open = 1
		}
		add(p.tenant, KeptPipes, p.size(), open)
		if c := p.content; c != nil {
			add(p.tenant, KeptPipes, c.restSize(), 0)
			for i := range c.kept() {
				add(p.tenant, KeptPipes, c.kept()[i].size(), 0)
			}
		}
	}
	for _, o := range st.sessions {
		if o != nil {
			add(tenantOfKey(o.key), KeptOutcomes, sessionSize+outcomeSize*cap(o.entries), 0)
		}
	}
	for _, k := range st.keys.entries[st.keys.start:] {
		add(k.tenant, KeptOutcomes, keySize, 0)
	}
	got := make(map[uint32]used)
	for _, u := range st.usage.tenants {
		got[u.tenant] = used{u.bytes, u.pipes}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("usage (-counted again +as noted):\n%s", diff)
	}
}
