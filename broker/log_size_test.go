package broker_test

import (
	"testing"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
)

// TestJournalStaysShort: however much goes through, a journal is no longer than three times what is live and its slack; and
// what it has then is all there is.
func TestJournalStaysShort(t *testing.T) {
	const slack = 200_000
	for name, live := range map[string]int{"hardly anything is live": 0, "much is live": 5_000} {
		t.Run(name, func(t *testing.T) {
			j := &journal.Memory{}
			cfg := broker.Config{Store: 5, JournalSlack: slack, Journal: func(uint16) (journal.Journal, error) { return keptOpen{j}, nil }}
			inBed(t, cfg, func(t *testing.T, b *bed) {
				p, w := b.attach("p"), b.attach("w")
				body := make([]byte, 300)
				for range live {
					p.do(&broker.Enqueue{Queue: "waits", Body: body})
				}
				consume := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 10})
				expect[*broker.Started](w, consume)
				allowed := 3*live*(len(body)+100) + slack + slack/2
				for i := range 20_000 {
					p.s.AnsweredBelow(p.op)
					w.s.AnsweredBelow(w.op)
					p.do(&broker.Enqueue{Queue: "q", Body: body})
					d := expect[*broker.Delivery](w, consume)
					w.do(&broker.Settle{Lease: b.keys.Mint(d.Lease), Action: broker.Ack})
					p.got, w.got = p.got[:0], w.got[:0]
					if i%100 == 0 {
						remembered := i * 100 // a settled lease and two outcomes each
						if n := length(t, j); n > allowed+remembered {
							t.Fatalf("after %d messages the journal has %d bytes, allowed are %d", i, n, allowed+remembered)
						}
					}
				}
			})
			inBed(t, cfg, func(t *testing.T, b *bed) {
				for _, q := range b.b.QueueStatistics(1, "") {
					if want := map[string]int{"waits": live}[q.Name]; int(q.Ready) != want {
						t.Errorf("queue %s has %d messages behind the restart, want %d", q.Name, q.Ready, want)
					}
				}
			})
		})
	}
}

// length is how many bytes a journal has.
func length(t *testing.T, j journal.Journal) (n int) {
	t.Helper()
	for r, err := range j.Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		n += len(r.Batch)
	}
	return n
}
