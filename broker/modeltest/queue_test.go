package modeltest

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// TestQueuesAreAsModelled: messages, leases, priorities, groups, delays, expiries, dead messages, keys, limits,
// configurations and administration, in one shard and in several.
func TestQueuesAreAsModelled(t *testing.T) {
	for _, shards := range []int{1, 3} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) { inBed(t, shards, queueActions) })
	}
}

func queueActions(d *bed) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"enqueue":         d.enqueue,
		"enqueue more":    d.enqueue,
		"enqueue plainly": d.enqueuePlainly,
		"consume":         d.consume,
		"credit":          d.creditConsumer,
		"settle":          d.settleOne,
		"settle another":  d.settleOne,
		"settle a third":  d.settleOne,
		"settle again":    d.settleOld,
		"extend":          d.extend,
		"cut":             d.cut,
		"come back":       d.comeBack,
		"stop":            d.stop,
		"configure":       d.configure,
		"purge":           d.purge,
		"remove":          d.removeMessages,
		"delete queue":    d.deleteQueue,
		"redrive":         d.redrive,
		"repeat":          d.repeat,
		"wait":            d.wait,
		"wait long":       d.waitLong,
	}
}

// The lists from which things are drawn. What times there are differ in their last digits, so that what is due at one
// moment has one cause as a rule.
var (
	queueNames = []string{"a", "b", "c.x"}                                                      //nolint:gochecknoglobals // constant
	groupNames = []string{"", "", "g", "h"}                                                     //nolint:gochecknoglobals // constant
	leaseTimes = []time.Duration{0, 0, 3001 * time.Millisecond, 20011 * time.Millisecond}       //nolint:gochecknoglobals // constant
	delays     = []time.Duration{0, 0, 0, 0, 1500 * time.Millisecond, 61 * time.Second}         //nolint:gochecknoglobals // constant
	expiries   = []time.Duration{0, 0, 0, 0, 5007 * time.Millisecond, 40003 * time.Millisecond} //nolint:gochecknoglobals // constant
	graces     = []time.Duration{0, 0, 4013 * time.Millisecond}                                 //nolint:gochecknoglobals // constant
)

func draw[T any](t *rapid.T, what string, from ...T) T { return rapid.SampledFrom(from).Draw(t, what) }

func chance(t *rapid.T, what string, percent int) bool {
	return rapid.IntRange(1, 100).Draw(t, what) > 100-percent
}

// pick draws one of some things, or skips the action if there is none.
func pick[T any](t *rapid.T, what string, from []T) T {
	if len(from) == 0 {
		t.Skip("no " + what)
	}
	return from[rapid.IntRange(0, len(from)-1).Draw(t, what)]
}

func (d *bed) enqueuePlainly(t *rapid.T) {
	r := &broker.Enqueue{Queue: draw(t, "queue", queueNames...), Body: []byte("plain")}
	d.m.applyEnqueue(d.producer.do(broker.Op{Request: r}), r)
	d.settle()
}

func (d *bed) enqueue(t *rapid.T) {
	r := &broker.Enqueue{
		Queue: draw(t, "queue", queueNames...), Body: make([]byte, rapid.IntRange(0, 40).Draw(t, "size")),
		Delay: draw(t, "delay", delays...), Expiry: draw(t, "expiry", expiries...),
		Priority: draw[uint8](t, "priority", 0, 0, 1, 2, 9), Group: draw(t, "group", groupNames...),
		RequireConsumer: chance(t, "requires a consumer", 15),
	}
	if chance(t, "key", 15) {
		content := draw[byte](t, "content", 1, 2)
		r.Key = &broker.Key{ID: [16]byte{draw[byte](t, "key", 1, 2)}, Content: [16]byte{content}}
		if content == 2 {
			r.Pipe = &broker.PipeOptions{}
		}
	} else if chance(t, "pipe", 25) {
		r.Pipe = &broker.PipeOptions{Timeout: 30017 * time.Millisecond}
	}
	d.m.applyEnqueue(d.producer.do(broker.Op{Request: r}), r)
	d.settle()
}

func (d *bed) consume(t *rapid.T) {
	r := &broker.Consume{
		Queues: []string{draw(t, "queue", queueNames...)}, MaxInFlight: rapid.Uint32Range(1, 4).Draw(t, "in flight"),
		LeaseTime: draw(t, "lease", leaseTimes...), ConsumerID: draw(t, "id", "", "", "x", "y"),
		MaxDeliveries: draw[uint64](t, "deliveries", 0, 0, 0, 3), Grace: draw(t, "grace", graces...),
	}
	if other := draw(t, "second queue", queueNames...); other != r.Queues[0] {
		r.Queues = append(r.Queues, other)
	}
	d.m.consume(d.worker.do(broker.Op{Request: r, Credit: draw[uint32](t, "credit", 0, 0, 1, 3)}), r)
	d.settle()
}

// live lists the consumers whose streams are there.
func (d *bed) live() (some []*consumer) {
	for _, c := range d.m.consumers {
		if !c.over {
			some = append(some, c)
		}
	}
	return some
}

func (d *bed) creditConsumer(t *rapid.T) {
	c := pick(t, "consumer", d.live())
	n := rapid.Uint32Range(1, 3).Draw(t, "credit")
	d.worker.s.Credit(c.call.op.ID, n)
	if c.bounded {
		c.credit += n
	}
	d.settle()
}

// leases lists those in force, or those that are over.
func (d *bed) leases(over bool) (some []*lease) {
	for _, x := range d.m.messages {
		for _, l := range x.leases {
			if (l.over != 0) == over {
				some = append(some, l)
			}
		}
	}
	return some
}

func (d *bed) settleOne(t *rapid.T) {
	l := pick(t, "lease", d.leases(false))
	r := &broker.Settle{Lease: l.token, Action: draw(t, "action", broker.Ack, broker.Ack, broker.Retry, broker.Reject, broker.Release)}
	if r.Action == broker.Retry {
		r.Delay = draw(t, "delay", 0, 0, broker.NoDelay, 2021*time.Millisecond)
	}
	if chance(t, "message", 15) {
		r.Messages = append(r.Messages, &broker.Enqueue{
			Queue: draw(t, "queue", queueNames...), Body: []byte("next"), Priority: draw[uint8](t, "priority", 0, 3),
			Group: draw(t, "group", groupNames...), Delay: draw(t, "delay", delays...),
		})
	}
	d.m.applySettle(d.producer.do(broker.Op{Request: r}), r)
	d.settle()
}

func (d *bed) settleOld(t *rapid.T) {
	l := pick(t, "lease", d.leases(true))
	r := &broker.Settle{Lease: l.token, Action: draw(t, "action", broker.Ack, broker.Retry, broker.Reject, broker.Release)}
	d.m.applySettle(d.producer.do(broker.Op{Request: r}), r)
	d.settle()
}

func (d *bed) extend(t *rapid.T) {
	r := &broker.ExtendLeases{LeaseTime: draw(t, "lease", leaseTimes...)}
	for range rapid.IntRange(1, 3).Draw(t, "leases") {
		r.Leases = append(r.Leases, pick(t, "lease", append(d.leases(false), d.leases(true)...)).token)
	}
	d.m.applyExtend(d.producer.do(broker.Op{Request: r}), r)
	d.settle()
}

// cut ends a consumer's stream, as a lost connection does.
func (d *bed) cut(t *rapid.T) {
	c := pick(t, "consumer", d.live())
	d.worker.s.Detach(c.call.op.ID)
	delete(d.worker.calls, c.call.op.ID)
	d.m.leave(c)
	d.settle()
}

// comeBack registers a consumer under an id that was used before, with some of what it had.
func (d *bed) comeBack(t *rapid.T) {
	c := pick(t, "consumer", d.m.consumers)
	r := &broker.Consume{
		ConsumerID: c.id, MaxInFlight: c.max, LeaseTime: c.lease, Grace: c.grace,
		Queues: []string{draw(t, "queue", queueNames...)},
	}
	if len(c.queues) > 0 {
		r.Queues[0] = c.queues[0].name
	}
	named := make(map[handles.Handle]bool)
	for _, x := range d.m.messages {
		for _, l := range x.leases {
			if (l.over == 0 || l.attempt == x.attempt) && chance(t, "named", 50) && !named[l.token] {
				r.Held, named[l.token] = append(r.Held, l.token), true
			}
		}
	}
	d.m.consume(d.worker.do(broker.Op{Request: r}), r)
	d.settle()
}

func (d *bed) stop(t *rapid.T) {
	c := pick(t, "consumer", d.live())
	k := d.producer.do(broker.Op{Request: &broker.StopConsuming{ConsumerID: c.id}})
	n := uint32(len(d.m.holds(c)))
	wantBody(k, true, "how many are left", func(b *broker.Stopping) string { return differs(broker.Stopping{InFlight: n}, *b) })
	c.stopping = true
	d.settle()
}

func (d *bed) configure(t *rapid.T) {
	q := pick(t, "queue", d.m.queues)
	r := &broker.UpdateQueue{Queue: q.name, Fields: draw(t, "field",
		broker.ConfigMaxLength|broker.ConfigDropOldest, broker.ConfigMaxBytes|broker.ConfigDropOldest, broker.ConfigDefaultExpiry,
		broker.ConfigLeaseTime, broker.ConfigMaxFailures, broker.ConfigBackoff|broker.ConfigMaxBackoff,
		broker.ConfigGroupConcurrency, broker.ConfigPaused, broker.ConfigMaxDead), Config: broker.QueueConfig{
		MaxLength: rapid.Uint64Range(0, 4).Draw(t, "length"), MaxBytes: draw[uint64](t, "bytes", 0, 30, 100),
		DropOldest: chance(t, "drops", 50), DefaultExpiry: draw(t, "expiry", expiries...), LeaseTime: draw(t, "lease", leaseTimes...),
		MaxFailures: rapid.Uint32Range(0, 3).Draw(t, "failures"), Backoff: draw(t, "backoff", 0, 700*time.Millisecond),
		MaxBackoff: draw(t, "most backoff", 0, 1900*time.Millisecond), GroupConcurrency: rapid.Uint32Range(0, 2).Draw(t, "concurrency"),
		Paused: chance(t, "paused", 50), MaxDead: rapid.Uint32Range(0, 2).Draw(t, "dead"),
	}}
	d.m.configure(d.producer.do(broker.Op{Request: r}), q, r)
	d.settle()
}

func (d *bed) purge(t *rapid.T) {
	q := pick(t, "queue", d.m.queues)
	r := &broker.PurgeQueue{Queue: q.name, State: draw(t, "state", 0, broker.MessageReady, broker.MessageDelayed, broker.MessageDead)}
	k := d.producer.do(broker.Op{Request: r})
	all := map[broker.MessageState][]messageState{
		0: {ready, delayed}, broker.MessageReady: {ready}, broker.MessageDelayed: {delayed}, broker.MessageDead: {dead},
	}[r.State]
	some := inSlotOrder(d.m.in(q, all...))
	wantRemoved(k, uint64(len(some)))
	for _, x := range some {
		d.m.remove(x, broker.EndPurged)
	}
	d.settle()
}

func (d *bed) removeMessages(t *rapid.T) {
	q := pick(t, "queue", d.m.queues)
	r := &broker.DeleteMessages{Queue: q.name}
	n := uint64(0)
	var some []*message
	for range rapid.IntRange(1, 3).Draw(t, "messages") {
		x := pick(t, "message", d.m.messages)
		r.Messages = append(r.Messages, x.id)
		some = append(some, x)
	}
	k := d.producer.do(broker.Op{Request: r})
	for _, x := range some {
		if x.queue == q && x.state != gone {
			d.m.remove(x, broker.EndPurged)
			n++
		}
	}
	wantRemoved(k, n)
	d.settle()
}

func (d *bed) deleteQueue(t *rapid.T) {
	q := pick(t, "queue", d.m.queues)
	r := &broker.DeleteQueue{Queue: q.name, Force: chance(t, "force", 50)}
	k := d.producer.do(broker.Op{Request: r})
	if !r.Force && (len(d.m.in(q, ready, delayed, leased, dead)) > 0 || d.m.consumersOf(q) > 0) {
		k.refuse(broker.ReasonQueueNotEmpty)
	} else {
		wantRemoved(k, d.m.deleteQueue(q))
	}
	d.settle()
}

func (d *bed) redrive(t *rapid.T) {
	q := pick(t, "queue", d.m.queues)
	all := pick(t, "dead", [][]*message{d.m.in(q, dead)})
	sortBy(all, func(x *message) uint64 { return x.diedAt })
	r := &broker.RedriveMessages{Queue: q.name}
	for i, x := range all {
		if i > 0 && x.diedStep == all[i-1].diedStep { // which of them died first is open
			all = all[:1]
			r.Messages = []broker.MessageID{all[0].id}
			break
		}
	}
	target := q
	if chance(t, "elsewhere", 30) && d.shards == 1 { // with several shards a message gets a new id that nobody is told
		r.Target = draw(t, "target", queueNames...)
	}
	k := d.producer.do(broker.Op{Request: r})
	if r.Target != "" && len(all) > 0 {
		target, _ = d.m.queueFor(r.Target)
	}
	wantRemoved(k, uint64(len(all)))
	for _, x := range all {
		d.m.redrive(x, target)
	}
	d.settle()
}

func (d *bed) wait(t *rapid.T) {
	d.advance(time.Duration(rapid.IntRange(1, 3000).Draw(t, "milliseconds")) * time.Millisecond)
}

func (d *bed) waitLong(t *rapid.T) {
	d.advance(time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second)
}

// endAll lets everything come to its end, without consumers: nobody waits for ever.
func (d *bed) endAll() {
	for _, c := range d.live() {
		d.worker.s.Detach(c.call.op.ID)
		delete(d.worker.calls, c.call.op.ID)
		d.m.leave(c)
		d.settle()
	}
	for d.m.nextDue() != 0 && d.waiting() {
		d.advance(max(10*time.Minute, time.Duration(d.m.nextDue()-d.now())))
	}
	for op, k := range d.producer.calls {
		if k.reader != nil && !k.reader.ended && k.reader.credit > 0 {
			d.t.Fatalf("operation %d still waits for its pipe to end", op)
		}
	}
}

// waiting reports whether somebody waits for a pipe.
func (d *bed) waiting() bool {
	for _, p := range d.m.pipes {
		if p.state < ended {
			return true
		}
	}
	return false
}

// repeat sends an operation again that was carried out: it has no further effect, and gets its first outcome.
func (d *bed) repeat(t *rapid.T) {
	again := pick(t, "operation", d.m.carriedOut)
	for _, r := range append(d.readers(false), d.readers(true)...) {
		if r.call.op.ID == again.op.ID {
			t.Skip("its number is in use")
		}
	}
	if d.producer.calls[again.op.ID] != nil {
		t.Skip("it is under way")
	}
	k := d.producer.again(again.op)
	again.want(k)
	d.settle()
}
