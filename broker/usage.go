package broker

import (
	"encoding/binary"
	"unsafe"
)

// A usage is what the state of a shard takes of the heap, by tenant and by what it is kept for. Only apply changes it. It
// is rather exact (TestUsageIsHonest): what is large is counted as it is, what is small with a constant.
type usage struct {
	tenants map[uint32]*tenantUsage
	last    *tenantUsage // that was looked up last

	all int64 // of all tenants
	// fresh is what has come since the shell took notice, changed whom it concerns.
	fresh   int64
	changed []*tenantUsage
}

// Kept is what memory is used for.
type Kept uint8

// What is counted apart.
const (
	// KeptMessages are messages, dead ones too, and queues.
	KeptMessages Kept = iota
	// KeptPipes are pipes and the replies in them.
	KeptPipes
	// KeptOutcomes are idempotency keys, and what the operations of sessions led to.
	KeptOutcomes
	keptKinds
)

type tenantUsage struct {
	tenant uint32
	bytes  [keptKinds]int64
	pipes  int64 // those that have not ended

	// freshBytes and freshPipes are what has come since the shell took notice, while isChanged.
	freshBytes, freshPipes int64
	isChanged              bool
	// total is the shell's: what the tenant has in all shards.
	total *tenantTotal
}

func newUsage() usage { return usage{tenants: make(map[uint32]*tenantUsage)} }

func (u *usage) of(tenant uint32) *tenantUsage {
	if u.last != nil && u.last.tenant == tenant {
		return u.last
	}
	t := u.tenants[tenant]
	if t == nil {
		t = &tenantUsage{tenant: tenant}
		u.tenants[tenant] = t
	}
	u.last = t
	return t
}

// add counts bytes; a negative number takes them off.
func (u *usage) add(tenant uint32, k Kept, bytes int) *tenantUsage {
	t := u.of(tenant)
	u.all += int64(bytes)
	t.bytes[k] += int64(bytes)
	t.freshBytes += int64(bytes)
	u.fresh += int64(bytes)
	if !t.isChanged {
		t.isChanged = true
		u.changed = append(u.changed, t)
	}
	return t
}

// addPipes counts pipes that have not ended, with what they take themselves.
func (u *usage) addPipes(tenant uint32, n, bytes int) {
	t := u.add(tenant, KeptPipes, bytes)
	t.pipes += int64(n)
	t.freshPipes += int64(n)
}

// What things take, beside what they hold. Lists have room for more than is in them, and maps more than twice.
const (
	messageSize = int(unsafe.Sizeof(message{}))
	extrasSize  = int(unsafe.Sizeof(messageExtras{}))
	carriedSize = int(unsafe.Sizeof(carriedHandle{}))
	attemptSize = int(unsafe.Sizeof(attempt{}))
	pipeSize    = int(unsafe.Sizeof(pipe{}))
	configSize  = int(unsafe.Sizeof(pipeConfig{}))
	contentSize = int(unsafe.Sizeof(content{}) - unsafe.Sizeof(reply{}))
	replySize   = int(unsafe.Sizeof(reply{}) * 3 / 2)
	rareSize    = int(unsafe.Sizeof(pipeRare{}))
	knownSize   = int(unsafe.Sizeof(byID{}) * 3 / 2)
	keySize     = int(unsafe.Sizeof(usedKey{})*3/2) + 80
	outcomeSize = int(unsafe.Sizeof(outcome{}))
	sessionSize = int(unsafe.Sizeof(outcomes{})) + 200
	queueSize   = int(unsafe.Sizeof(queue{})) + int(unsafe.Sizeof([rateMarks]rateMark{})) + 160
)

// heapSize is what so many bytes take of the heap: memory comes in sizes, an eighth apart at most, and what is large in
// pages.
func heapSize(n int) int {
	switch {
	case n == 0:
		return 0
	case n <= 256:
		return (n + 15) &^ 15
	case n <= 32<<10:
		return n + n/16
	default:
		return (n + 8<<10 - 1) &^ (8<<10 - 1)
	}
}

// size is what a message takes.
func (m *message) size() int {
	size := messageSize + heapSize(len(m.body))
	if e := m.extras; e != nil {
		size += extrasSize + handlesSize(e.handles) + heapSize(len(e.group))
		for i := range e.history {
			size += attemptSize + heapSize(len(e.history[i].text))
		}
	}
	return size
}

func handlesSize(hs []carriedHandle) int {
	size := len(hs) * carriedSize
	for i := range hs {
		size += heapSize(len(hs[i].name))
	}
	return size
}

// count counts a message, or with -1 takes it off: before and behind each change of what its size is made of.
func (st *state) count(m *message, sign int) {
	if st.replaying {
		return
	}
	st.usage.add(st.queues[m.queue].tenant, KeptMessages, sign*m.size())
}

func (r *reply) size() int { return replySize + heapSize(len(r.body)) + handlesSize(r.handles) }

// size is what a pipe takes itself, without its content.
func (p *pipe) size() int {
	if p.options != nil && p.options != &defaultPipeConfig {
		return pipeSize + configSize
	}
	return pipeSize
}

// restSize is what a content takes without its replies.
func (c *content) restSize() int {
	size := contentSize
	if r := c.rare; r != nil {
		size += rareSize + heapSize(len(r.endBody)) + heapSize(len(r.endText)) + heapSize(len(r.endID))
		for i := range r.known {
			size += knownSize + heapSize(len(r.known[i].id))
		}
	}
	return size
}

// room is what storing a message will take, and opening its pipe.
func (e *Enqueue) room() (bytes, pipes int) {
	bytes = messageSize + heapSize(len(e.Body))
	if e.Group != "" || e.Priority != 0 || len(e.Cargo.Handles) > 0 {
		bytes += extrasSize + heapSize(len(e.Group)) + len(e.Cargo.Handles)*carriedSize
	}
	if e.Key != nil {
		bytes += keySize
	}
	if e.Pipe != nil {
		bytes += pipeSize
		pipes = 1
	}
	return bytes, pipes
}

// tenantOfKey is the tenant of a session's key, see Broker.Attach.
func tenantOfKey(key string) uint32 { return binary.BigEndian.Uint32([]byte(key[:4])) }
