package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// TestDelayedUntilOneMoment: messages that come in at the same time come in as they were sent, however far off that was,
// and across a restart.
func TestDelayedUntilOneMoment(t *testing.T) {
	j := &journal.Memory{}
	cfg := broker.Config{Store: 3, Journal: func(uint16) (journal.Journal, error) { return keptOpen{j}, nil }}
	synctest.Test(t, func(t *testing.T) {
		keys, err := handles.NewEphemeral()
		if err != nil {
			t.Fatal(err)
		}
		open := func() *bed {
			b, err := broker.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return &bed{t, b, keys, 1}
		}
		for _, delay := range []time.Duration{3 * time.Millisecond, 70 * time.Millisecond, 5 * time.Second, time.Hour} {
			for _, restart := range []bool{false, true} {
				b := open()
				p := b.attach(fmt.Sprint("p", delay, restart))
				at := time.Now().Add(delay)
				for i := range 5 {
					expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Body: fmt.Append(nil, i), NotBefore: broker.TimeOf(at)}))
					time.Sleep(delay / 10)
				}
				synctest.Wait()
				if restart {
					if err := b.b.Close(); err != nil {
						t.Fatal(err)
					}
					b = open()
				}
				w := b.attach(fmt.Sprint("w", delay, restart))
				op := w.consume("q")
				for i := range 5 {
					d := w.delivered(op)
					if string(d.Body) != fmt.Sprint(i) {
						t.Errorf("after %v (restart %v), delivery %d: got message %s", delay, restart, i, d.Body)
					}
					w.settle(d.Delivery, broker.Ack)
				}
				synctest.Wait()
				if err := b.b.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestDelayedMessageDoesNotAge: the time for which a message was held back at first is no waiting, also after it was
// delivered and given back.
func TestDelayedMessageDoesNotAge(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Body: []byte("low"), Delay: 10 * time.Minute}))
		op := w.consume("q")
		low := w.delivered(op)
		w.s.Detach(op)
		expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Body: []byte("high"), Priority: 2}))
		list := expect[*broker.MessageList](p, p.do(&broker.ListMessages{Queue: "q", Limit: 10}))
		if got := string(list.Messages[0].Body); got != "high" {
			t.Errorf("listed first: %s, want the message with priority 2", got)
		}
		op = w.consume("q")
		if d := w.delivered(op); string(d.Body) != "high" {
			t.Errorf("delivered first: %s, want the message with priority 2", d.Body)
		}
		if d := w.delivered(op); d.Message != low.Message {
			t.Errorf("delivered second: %s, want the other message", d.Body)
		}
	})
}
