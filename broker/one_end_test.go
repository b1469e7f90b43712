package broker_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/replyq/replyq/broker"
)

// Many want to end a pipe at the same time, in different ways: one of them does, the others learn how it had ended, and
// its readers see that end and no other. Whoever repeats a reply with its id learns what it learned at first.
func TestP12OneEnd(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		const contenders = 6
		reader := b.attach("reader")
		var all []*client
		for i := range contenders {
			all = append(all, b.attach(fmt.Sprint("contender-", i)))
		}
		winners := make(map[broker.EndReason]int)
		for range 100 {
			send, receive := reader.pipe(broker.PipeOptions{})
			read := reader.receive(receive, 1)
			requests := make([]broker.Request, contenders)
			for i := range requests {
				id := fmt.Sprint("id-", i)
				switch i % 3 {
				case 0:
					requests[i] = &broker.Reply{Handle: send, Kind: broker.ReplyPayload, Body: []byte(id), ID: id}
				case 1:
					requests[i] = &broker.Reply{Handle: send, Kind: broker.ReplyError, Body: []byte(id), ID: id}
				default:
					requests[i] = &broker.Cancel{Handle: receive, Message: id}
				}
			}
			ops := make([]uint64, contenders)
			var started sync.WaitGroup
			for i, c := range all {
				started.Go(func() { ops[i] = c.do(requests[i]) })
			}
			started.Wait()
			end := expect[*broker.End](reader, skipReplies(reader, read))
			winners[end.Reason]++
			won := 0
			for i, c := range all {
				switch got := c.next(ops[i]).Body.(type) {
				case *broker.Cancelled:
					if got.Now {
						won++
					}
					if got.Reason != end.Reason {
						t.Errorf("cancel: told %v, the reader %v", got.Reason, end.Reason)
					}
				case *broker.ReplyResult:
					if got.Outcome == broker.ReplyDelivered {
						won++
					} else if got.Outcome != broker.ReplyEnded || got.EndReason != end.Reason {
						t.Errorf("reply %d: told %v %v, the reader %v", i, got.Outcome, got.EndReason, end.Reason)
					}
					again := expect[*broker.ReplyResult](c, c.do(requests[i]))
					if again.Outcome != got.Outcome || again.EndReason != got.EndReason || again.Sequence != got.Sequence {
						t.Errorf("reply %d again: told %+v, at first %+v", i, again, got)
					}
				default:
					t.Fatalf("contender %d: got %T", i, got)
				}
			}
			if won != 1 {
				t.Errorf("%d have ended the pipe, want 1", won)
			}
			reader.quiet(read)
		}
		t.Log(winners)
	})
}

// skipReplies takes the replies of an operation up to its end.
func skipReplies(c *client, op uint64) uint64 {
	c.t.Helper()
	for {
		e := c.next(op)
		if _, ok := e.Body.(*broker.ReplyItem); !ok {
			c.got = append([]broker.Event{e}, c.got...)
			return op
		}
	}
}
