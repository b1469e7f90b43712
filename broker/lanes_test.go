package broker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// put stores a message with a priority and a group.
func (c *client) put(body string, priority uint8, group string) {
	c.t.Helper()
	expect[*broker.Receipt](c, c.do(&broker.Enqueue{Queue: "q", Body: []byte(body), Priority: priority, Group: group}))
}

// gets takes deliveries one at a time, acks them, and checks their order.
func (c *client) gets(want ...string) {
	c.t.Helper()
	op := c.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, MaxDeliveries: uint64(len(want))})
	expect[*broker.Started](c, op)
	var got []string
	for range want {
		d := c.delivered(op)
		got = append(got, string(d.Body))
		c.settle(d.Delivery, broker.Ack)
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("delivered %q, want %q", got, want)
	}
}

// holds registers a consumer with room for n deliveries and returns those that come at once.
func (c *client) holds(n uint32) (op uint64, held []delivery) {
	c.t.Helper()
	op = c.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: n, LeaseTime: 12 * time.Hour})
	expect[*broker.Started](c, op)
	for {
		e, ok := c.poll(op)
		if !ok {
			return op, held
		}
		d, ok := e.Body.(*broker.Delivery)
		if !ok {
			c.t.Fatalf("got %T, want a delivery", e.Body)
		}
		held = append(held, delivery{Delivery: d, lease: c.keys.Mint(d.Lease)})
	}
}

func bodies(held []delivery) (all []string) {
	for _, d := range held {
		all = append(all, string(d.Body))
	}
	return all
}

func (c *client) holding(held []delivery, want ...string) {
	c.t.Helper()
	if got := bodies(held); !slices.Equal(got, want) {
		c.t.Fatalf("delivered %q, want %q", got, want)
	}
}

func TestHigherPriorityFirst(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		for i, priority := range []uint8{0, 5, 9, 5, 0, 9} {
			p.put(fmt.Sprintf("%d-%d", priority, i), priority, "")
		}
		w.gets("9-2", "9-5", "5-1", "5-3", "0-0", "0-4")
		p.put("seven", 7, "g")
		op, held := w.holds(1)
		if d := held[0]; d.Priority != 7 || d.Group != "g" {
			t.Errorf("delivery: got priority %d and group %q, want 7 and g", d.Priority, d.Group)
		}
		w.settle(held[0].Delivery, broker.Ack)
		w.quiet(op)
	})
}

// TestWaitingAges: a minute makes up for one priority, so that what waits is not overtaken for ever.
func TestWaitingAges(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.put("old", 0, "")
		<-time.After(9*time.Minute - time.Second)
		p.put("a second too early", 9, "")
		<-time.After(2 * time.Second)
		p.put("a second too late", 9, "")
		w.gets("a second too early", "old", "a second too late")
	})
}

// TestDelayDoesNotAge: a message ages from when it may be delivered.
func TestDelayDoesNotAge(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Body: []byte("late"), Delay: time.Hour}))
		<-time.After(time.Hour + time.Second)
		p.put("nine", 9, "")
		w.gets("nine", "late")
	})
}

func TestRetriedMessageKeepsItsPlaceInItsPriority(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		for _, body := range []string{"a", "b", "c"} {
			p.put(body, 3, "g")
		}
		_, held := w.holds(2)
		w.holding(held, "a", "b")
		w.s.Close()
		w = b.attach("w2")
		w.gets("a", "b", "c")
	})
}

func TestGroupsAreServedInTurn(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		for i := range 3 {
			p.put(fmt.Sprint("a", i), 0, "a")
		}
		for i := range 2 {
			p.put(fmt.Sprint("b", i), 0, "b")
			p.put(fmt.Sprint("none", i), 0, "")
		}
		p.put("urgent", 1, "a")
		w.gets("urgent", "a0", "b0", "none0", "a1", "b1", "none1", "a2")
		if q := p.queue("q"); q.Ready != 0 {
			t.Errorf("%d messages left", q.Ready)
		}
	})
}

func TestStrictOrderOfAGroup(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{GroupConcurrency: 1})
		for _, body := range []string{"a0", "a1"} {
			p.put(body, 0, "a")
		}
		p.put("b0", 0, "b")
		p.put("loose0", 0, "")
		p.put("loose1", 0, "")
		op, held := w.holds(10)
		w.holding(held, "a0", "b0", "loose0", "loose1") // no group, no limit
		// A head that is retried later blocks its group, and no other.
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: held[0].lease, Action: broker.Retry, Delay: time.Minute}))
		w.quiet(op)
		w.settle(held[1].Delivery, broker.Ack)
		p.put("b1", 0, "b")
		if d := w.delivered(op); string(d.Body) != "b1" {
			t.Errorf("delivered %q, want b1", d.Body)
		}
		start := time.Now()
		again := w.delivered(op)
		if waited := time.Since(start); string(again.Body) != "a0" || waited < time.Minute {
			t.Errorf("delivered %q after %v, want a0 after a minute", again.Body, waited)
		}
		w.quiet(op)
		w.settle(again.Delivery, broker.Ack)
		if d := w.delivered(op); string(d.Body) != "a1" {
			t.Errorf("delivered %q, want a1", d.Body)
		}
	})
}

func TestDelayAtEnqueueDoesNotBlockAGroup(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{GroupConcurrency: 1})
		e := &broker.Enqueue{Queue: "q", Body: []byte("late"), Group: "a", Delay: time.Minute}
		expect[*broker.Receipt](p, p.do(e))
		p.put("now", 0, "a")
		op, held := w.holds(10)
		w.holding(held, "now")
		<-time.After(2 * time.Minute)
		w.quiet(op) // late is ready, and waits for its turn
		w.settle(held[0].Delivery, broker.Ack)
		if d := w.delivered(op); string(d.Body) != "late" {
			t.Errorf("delivered %q, want late", d.Body)
		}
	})
}

func TestGroupConcurrency(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{GroupConcurrency: 2})
		for i := range 5 {
			p.put(fmt.Sprint("a", i), uint8(i%2), "a")
		}
		op, held := w.holds(10)
		w.holding(held, "a1", "a3")
		// Above 1, what is held back leaves its place to others.
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: held[0].lease, Action: broker.Retry, Delay: time.Hour}))
		if d := w.delivered(op); string(d.Body) != "a0" {
			t.Errorf("delivered %q, want a0", d.Body)
		}
		w.quiet(op)
		p.update("q", broker.QueueConfig{GroupConcurrency: 3}, broker.ConfigGroupConcurrency)
		if d := w.delivered(op); string(d.Body) != "a2" {
			t.Errorf("delivered %q, want a2", d.Body)
		}
		w.quiet(op)
		p.update("q", broker.QueueConfig{}, broker.ConfigGroupConcurrency)
		if d := w.delivered(op); string(d.Body) != "a4" {
			t.Errorf("delivered %q, want a4", d.Body)
		}
	})
}

func TestFullQueueWithGroupsDropsItsOldest(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{MaxLength: 3, DropOldest: true})
		p.put("leased", 9, "a")
		_, held := w.holds(1)
		w.holding(held, "leased")
		for i, group := range []string{"b", "", "a", "b", "a"} {
			p.put(fmt.Sprint(i), uint8(9-i), group)
		}
		w.settle(held[0].Delivery, broker.Reject)
		w.s.Close()
		w = b.attach("w2")
		w.gets("2", "3", "4")
	})
}

func TestForwardedMessageKeepsPriorityAndGroup(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.enqueue("first", handles.Handle{})
		d := w.delivered(w.consume("first"))
		settled := expect[*broker.Settled](w, w.do(&broker.Settle{
			Lease: d.lease, Action: broker.Ack,
			Messages: []*broker.Enqueue{{Queue: "q", Priority: 4, Group: "g", Body: []byte("m")}},
		}))
		next := w.delivered(w.consume("q"))
		if next.Message != settled.Receipts[0].Message || next.Priority != 4 || next.Group != "g" {
			t.Errorf("got %+v, want priority 4 and group g", next.Delivery)
		}
	})
}

// TestManyGroups: with 100,000 groups each delivery costs the same as with one.
func TestManyGroups(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{GroupConcurrency: 1})
		const groups = 100_000
		for round := range 2 {
			for i := range groups {
				p.do(&broker.Enqueue{Queue: "q", Body: fmt.Append(nil, round), Group: fmt.Sprint("group-", i)})
			}
		}
		p.s.Take(nil)
		op, held := w.holds(10)
		for n := range 2 * groups {
			if want := fmt.Sprint(n / groups); string(held[0].Body) != want {
				t.Fatalf("delivery %d: got %q, want %q of group %s", n, held[0].Body, want, held[0].Group)
			}
			w.settle(held[0].Delivery, broker.Ack)
			if held = held[1:]; n < 2*groups-10 {
				held = append(held, w.delivered(op))
			}
		}
		if q := p.queue("q"); q.Ready+q.InFlight != 0 {
			t.Errorf("left: %+v", q)
		}
	})
}
