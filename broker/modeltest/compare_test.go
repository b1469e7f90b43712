package modeltest

import (
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/replyq/replyq/broker"
)

// All that can be seen of the broker against the model.

var equateEmpty = cmpopts.EquateEmpty() //nolint:gochecknoglobals // an option without state

// ask submits an operation that only looks, and returns its answer.
func (d *bed) ask(r broker.Request) any {
	d.viewer.op++
	d.viewer.s.Submit([]broker.Op{{ID: d.viewer.op, Request: r}})
	events := d.viewer.s.Take(nil)
	if len(events) == 0 {
		synctest.Wait()
		events = d.viewer.s.Take(nil)
	}
	if len(events) != 1 || events[0].Op != d.viewer.op || !events[0].Done {
		d.t.Fatalf("%T: got %d events, want one", r, len(events))
	}
	return events[0].Body
}

func (d *bed) compare() {
	d.compareQueues()
	for _, q := range d.m.queues {
		d.compareMessages(q)
	}
	d.comparePipes()
}

func (d *bed) compareQueues() {
	m := d.m
	want := make(map[string]broker.QueueInfo)
	for _, q := range m.queues {
		info := broker.QueueInfo{
			Name: q.name, Config: q.config, Consumers: m.consumersOf(q),
			Enqueued: q.enqueued, Delivered: q.delivered, Acked: q.acked, Failed: q.failed,
		}
		for _, x := range m.in(q, ready, delayed, leased, dead) {
			switch x.state {
			case ready:
				info.Ready++
			case delayed:
				info.Delayed++
			case leased:
				info.InFlight++
			case dead:
				info.Dead++
				continue
			}
			info.Bytes += uint64(len(x.body))
			if x.replyTo != nil && !x.replyTo.ended && x.replyTo.pipe.state < ended {
				info.Waiters++
			}
		}
		want[q.name] = info
	}
	list, ok := d.ask(&broker.ListQueues{}).(*broker.QueueList)
	if !ok {
		d.t.Fatalf("ListQueues: no list")
	}
	got := make(map[string]broker.QueueInfo)
	for _, info := range list.Queues {
		info.CreatedAt, info.OldestAge, info.EnqueueRate, info.AckRate = 0, 0, 0, 0
		got[info.Name] = info
	}
	if why := differs(want, got); why != "" {
		d.t.Fatalf("the queues' figures: %s", why)
	}
}

func (d *bed) compareMessages(q *queue) {
	list, ok := d.ask(&broker.ListMessages{Queue: q.name, Limit: 1000}).(*broker.MessageList)
	if !ok {
		d.t.Fatalf("ListMessages: no list")
	}
	d.exchangeDead(list)
	lines := make(map[line]uint64) // the last place that was listed of each
	for _, info := range list.Messages {
		x := d.m.byID(info.Message)
		if x == nil || x.queue != q || info.State != seenAs(x.state) {
			d.t.Fatalf("queue %q: message %v is listed as %v, want %+v", q.name, info.Message, info.State, x)
		}
		if x.notAfter != 0 && x.state == delayed && info.Until >= x.until && info.Until <= x.notAfter {
			x.until, x.notAfter = info.Until, 0
		}
		want := broker.MessageInfo{
			Message: x.id, State: info.State, Body: x.body, EnqueuedAt: x.enqueued, Until: x.until, Attempts: x.attempt,
			Failures: x.failures, Priority: x.priority, Group: x.group, DeadReason: x.died,
		}
		info.Cursor, info.ReplyTo = broker.Cursor{}, want.ReplyTo
		history := info.History
		info.History = nil
		if why := differs(want, info); why != "" {
			d.t.Fatalf("queue %q, message %v: %s", q.name, x.id, why)
		}
		if ended := x.attempt - uint32(boolToInt(x.state == leased)); len(history) != int(min(ended, historyMost)) {
			d.t.Fatalf("queue %q, message %v: %d attempts in its history, want %d", q.name, x.id, len(history), ended)
		}
		if x.state == ready {
			if x.place < lines[x.line()] {
				d.t.Fatalf("queue %q: message %v is listed behind one that came later", q.name, x.id)
			}
			lines[x.line()] = x.place
		}
	}
	if n := len(d.m.in(q, ready, delayed, leased, dead)); n != len(list.Messages) {
		d.t.Fatalf("queue %q: %d messages are listed, want %d", q.name, len(list.Messages), n)
	}
}

// exchangeDead follows the broker where several messages died in one step and some had to be dropped.
func (d *bed) exchangeDead(list *broker.MessageList) {
	listed := make(map[broker.MessageID]bool)
	for _, info := range list.Messages {
		listed[info.Message] = true
	}
	for _, info := range list.Messages {
		x := d.m.byID(info.Message)
		if x == nil || info.State != broker.MessageDead || !x.trimmed || x.state != gone {
			continue
		}
		for _, y := range d.m.in(x.queue, dead) {
			if !listed[y.id] && y.diedStep == x.diedStep {
				x.state, x.trimmed, y.state, y.trimmed = dead, false, gone, true
				break
			}
		}
	}
}

// historyMost is how many attempts a message's history has at most.
const historyMost = 16

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func seenAs(s messageState) broker.MessageState {
	switch s {
	case ready:
		return broker.MessageReady
	case delayed:
		return broker.MessageDelayed
	case leased:
		return broker.MessageInFlight
	case dead:
		return broker.MessageDead
	}
	return 0
}

// describe asks for a pipe's state; nil if it is not known any more.
func (d *bed) describe(p *pipe) *broker.Description {
	switch b := d.ask(&broker.Describe{Handle: p.receive}).(type) {
	case *broker.Description:
		return b
	case *broker.Error:
		if b.Reason != broker.ReasonHandleUnknown {
			d.t.Fatalf("Describe: %v", b)
		}
		return nil
	default:
		d.t.Fatalf("Describe: %T", b)
		return nil
	}
}

// endOf asks how a pipe has ended; 0 if it has not.
func (d *bed) endOf(p *pipe) broker.EndReason {
	if at := d.describe(p); at != nil && at.End != nil {
		return at.End.Reason
	}
	return broker.EndOpen
}

func (d *bed) comparePipes() {
	m := d.m
	for _, p := range m.pipes {
		if p.state == forgotten && p.checkAt.Add(time.Minute) < m.now() {
			continue
		}
		at := d.describe(p)
		if at == nil && p.state == ended && p.wasInner && !m.needed(p) {
			m.forget(p) // it ended in the same moment as the pipe that read it: it may count as read or not
		}
		if (at == nil) != (p.state == forgotten) {
			d.t.Fatalf("pipe %v is known: %v, want %v; %d and %d carriers, attached: %v", p.receive, at != nil, p.state != forgotten,
				m.carriers(p, true), m.carriers(p, false), m.attached(p))
		}
		if at == nil {
			continue
		}
		if (p.wasJoined || p.wasInner) && at.FirstSequence > p.first && at.FirstSequence <= p.last()+1 {
			for p.first < at.FirstSequence {
				m.trim(p)
			}
		}
		type seen struct {
			ended       bool
			spliced     bool
			reason      broker.EndReason
			first, next uint64
			readers     int
			carriers    int
			outside     bool
			deadline    broker.Time
		}
		got := seen{
			ended: at.State == broker.WaitEnded, spliced: at.State == broker.WaitSpliced, first: at.FirstSequence, next: at.NextSequence,
			readers: int(at.Readers), carriers: len(at.Carriers), outside: at.Outside, deadline: at.Deadline,
		}
		if at.End != nil {
			got.reason = at.End.Reason
		}
		want := seen{
			ended: p.state == ended, spliced: p.state == spliced, reason: p.reason, first: p.first, next: p.last() + 1,
			readers: len(p.readers), carriers: m.carriers(p, false), outside: p.outside, deadline: p.deadline,
		}
		if d.shards > 1 && at.Outside { // by a token in a reply that was in vain, elsewhere
			p.outside, want.outside = true, true
		}
		if p.state != open { // nothing depends on it any more
			want.outside, want.carriers = got.outside, got.carriers
		}
		if want != got {
			d.t.Fatalf("pipe %v, %v (of Call: %v): got %+v, want %+v", p.send, p.receive, p.byCall, got, want)
		}
	}
}
