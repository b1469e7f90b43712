package broker

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// A budget bounds what all shards together keep in memory. Shards count (usage); whoever takes an operation to a shard
// looks up here what may be added by then, and the shard refuses what is over it before it keeps anything. What frees
// memory is not asked for room: Settle with what it carries, a reply that ends its pipe, Cancel.
type budget struct {
	limit int64 // 0: none
	quota Quota

	kept    atomic.Int64 // by tenants
	held    atomic.Int64 // beside: what streams take, events on their way, replies that wait for room
	tenants atomic.Int64 // that have something

	diskFull  atomic.Bool
	overloads atomic.Uint64 // how often something was refused for want of memory

	mu       sync.RWMutex
	byTenant map[uint32]*tenantTotal
}

// Quota bounds each tenant. Where several shards take operations at the same moment, it may be exceeded by those.
type Quota struct {
	// Bytes is how much memory what a tenant has may take: messages, pipes, replies, keys. Default: no bound but that of
	// all.
	Bytes int64
	// Pipes is how many pipes may be open. Default 2,000,000.
	Pipes int64
	// Sessions is how many Session streams may be open. Default: no bound.
	Sessions int64
}

const defaultPipeQuota = 2_000_000

// tenantTotal is what a tenant has in all shards.
type tenantTotal struct {
	bytes, pipes, sessions atomic.Int64
}

// The marks of the memory, in hundredths of the limit.
const (
	// MemoryPressed is from when on things are given up that are kept only in case somebody asks for them.
	MemoryPressed = 60
	// MemorySoft is from when on the tenants that have most may add nothing.
	MemorySoft = 70
	// MemoryHard is from when on nobody may.
	MemoryHard = 85
	// MemoryFull is from when on what ends and settles may not bring much either.
	MemoryFull = 90
)

// eventSize is about what an event takes that waits to be sent. What it carries is its shard's.
const eventSize = 256

// overloadRetry is how long a client shall wait for memory, or for its quota.
const overloadRetry = time.Second

func newBudget(limit int64, q Quota) *budget {
	b := &budget{limit: limit, quota: q, byTenant: make(map[uint32]*tenantTotal)}
	for _, bound := range []*int64{&b.quota.Bytes, &b.quota.Sessions} {
		if *bound == 0 {
			*bound = math.MaxInt64
		}
	}
	if b.quota.Pipes == 0 {
		b.quota.Pipes = defaultPipeQuota
	}
	return b
}

func (b *budget) of(tenant uint32) *tenantTotal {
	b.mu.RLock()
	t := b.byTenant[tenant]
	b.mu.RUnlock()
	if t != nil {
		return t
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t = b.byTenant[tenant]; t == nil {
		t = &tenantTotal{}
		b.byTenant[tenant] = t
	}
	return t
}

// take adds what has changed in a shard, whose lock is held.
func (b *budget) take(s *shard) {
	if s.overloads != 0 {
		b.overloads.Add(s.overloads)
		s.overloads = 0
	}
	if s.freshHeld != 0 {
		b.held.Add(s.freshHeld)
		s.freshHeld = 0
	}
	u := &s.st.usage
	if len(u.changed) == 0 {
		return
	}
	b.kept.Add(u.fresh)
	for _, t := range u.changed {
		if t.total == nil {
			t.total = b.of(t.tenant)
		}
		if t.freshBytes != 0 {
			now := t.total.bytes.Add(t.freshBytes)
			switch before := now - t.freshBytes; {
			case before <= 0 && now > 0:
				b.tenants.Add(1)
			case before > 0 && now <= 0:
				b.tenants.Add(-1)
			}
		}
		if t.freshPipes != 0 {
			t.total.pipes.Add(t.freshPipes)
		}
		t.freshBytes, t.freshPipes, t.isChanged = 0, 0, false
	}
	u.fresh, u.changed = 0, u.changed[:0]
}

// mark is a mark in bytes.
func (b *budget) mark(hundredths int64) int64 {
	if b.limit == 0 {
		return math.MaxInt64
	}
	return b.limit / 100 * hundredths
}

func (b *budget) used() int64 { return b.kept.Load() + b.held.Load() }

func (b *budget) pressed() bool { return b.limit != 0 && b.used() > b.mark(MemoryPressed) }

// allowance is what a tenant may add just now.
func (b *budget) allowance(t *tenantTotal) allowance {
	a := allowance{
		bytes: math.MaxInt64, memory: math.MaxInt64, replies: math.MaxInt64, last: math.MaxInt64, pipes: b.quota.Pipes - t.pipes.Load(),
		diskFull: b.diskFull.Load(),
	}
	has := t.bytes.Load()
	if b.quota.Bytes != math.MaxInt64 {
		a.bytes = b.quota.Bytes - has
	}
	if b.limit == 0 {
		return a
	}
	used := b.used()
	a.replies, a.last = b.mark(MemoryHard)-used, b.mark(MemoryFull)-used
	a.memory = a.replies
	if b.hasMost(has) {
		a.memory = b.mark(MemorySoft) - used
	}
	return a
}

// hasMost reports whether a tenant that has so much has about as much as the average, or more. One that is alone has.
func (b *budget) hasMost(has int64) bool {
	kept := b.kept.Load()
	return has*max(b.tenants.Load(), 1) >= kept-kept/8
}

// addSession counts a Session stream, and refuses one too many.
func (b *budget) addSession(t *tenantTotal) *Error {
	if t.sessions.Add(1) > b.quota.Sessions {
		t.sessions.Add(-1)
		return &Error{
			Code: CodeResourceExhausted, Reason: ReasonTenantQuota, RetryAfter: overloadRetry,
			Text: fmt.Sprintf("the tenant has %d sessions open and may have no more; share sessions, or wait until some end", b.quota.Sessions),
		}
	}
	return nil
}

// Usage is what is kept, of a tenant or of all.
type Usage struct {
	Bytes    [keptKinds]int64 // by Kept
	Pipes    int64            // that have not ended
	Sessions int64            // Session streams
}

// Total is all the bytes.
func (u *Usage) Total() (n int64) {
	for _, bytes := range u.Bytes {
		n += bytes
	}
	return n
}

// Usage tells what a tenant has. It asks each shard in turn, and so is no snapshot.
func (b *Broker) Usage(tenant uint32) (all Usage) {
	for _, r := range b.runners {
		r.run(func(s *shard) {
			if t := s.st.usage.tenants[tenant]; t != nil {
				for k, bytes := range t.bytes {
					all.Bytes[k] += bytes
				}
				all.Pipes += t.pipes
			}
		})
	}
	all.Sessions = b.budget.of(tenant).sessions.Load()
	return all
}

// Overloads is how often something was refused with SERVER_OVERLOADED.
func (b *Broker) Overloads() uint64 { return b.budget.overloads.Load() }

// MemoryLimit is [Config.MemoryLimit]; 0 for none.
func (b *Broker) MemoryLimit() int64 { return b.budget.limit }

// MemoryUsed is what counts against [Config.MemoryLimit] now.
func (b *Broker) MemoryUsed() int64 { return b.budget.used() }

// Hold counts memory that a server takes for its clients against [Config.MemoryLimit]; a negative number takes it off.
func (b *Broker) Hold(bytes int64) { b.budget.held.Add(bytes) }

// OpenSession counts a Session stream of a tenant against its quota, until done is called; or refuses it.
func (b *Broker) OpenSession(tenant uint32) (done func(), err *Error) {
	t := b.budget.of(tenant)
	if err := b.budget.addSession(t); err != nil {
		return nil, err
	}
	b.budget.held.Add(streamSize)
	return sync.OnceFunc(func() {
		t.sessions.Add(-1)
		b.budget.held.Add(-streamSize)
	}), nil
}

// streamSize is about what a Session stream takes of the process: goroutines, buffers, tables.
const streamSize = 48 << 10
