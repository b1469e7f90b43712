package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
)

func TestSpliceGoesOnWithTheOtherPipe(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		for range 5 { // pipes without a queue are placed in turn
			p := b.attach("p")
			outSend, outReceive := p.pipe(broker.PipeOptions{})
			inSend, inReceive := p.pipe(broker.PipeOptions{})
			read := p.receive(outReceive, 1)
			p.send(&broker.Reply{Handle: outSend, Body: []byte("own"), More: true}, broker.ReplyDelivered)
			p.send(&broker.Reply{Handle: inSend, Body: []byte("before"), More: true}, broker.ReplyBuffered)
			p.send(&broker.Reply{Handle: outSend, Kind: broker.ReplySplice, Splice: inReceive}, broker.ReplyDelivered)
			p.send(&broker.Reply{Handle: outSend, Body: []byte("too late")}, broker.ReplyEnded)
			p.send(&broker.Reply{Handle: inSend, Body: []byte("after"), More: true}, broker.ReplyDelivered)
			p.send(&broker.Reply{Handle: inSend, Kind: broker.ReplyError, Body: []byte("failed")}, broker.ReplyDelivered)
			for i, body := range []string{"own", "before", "after"} {
				p.replies(read, uint64(i+1), body)
			}
			if end := p.ends(read, broker.EndFailed); string(end.Body) != "failed" {
				t.Errorf("end: got %q", end.Body)
			}
			p.s.Close()
		}
	})
}

func TestSpliceKeepsSourceAndAttempt(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("actor", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("actor"))
		other, receipt := w.call("other", "m", broker.PipeOptions{})
		_ = other
		w.send(&broker.Reply{Handle: d.replyTo, Kind: broker.ReplySplice, Splice: b.keys.Mint(receipt.Receive), Lease: d.lease, Ack: true},
			broker.ReplyDelivered)
		d2 := w.delivered(w.consume("other"))
		w.send(&broker.Reply{Handle: d2.replyTo, Body: []byte("v"), Lease: d2.lease, Ack: true}, broker.ReplyDelivered)
		if r := p.replies(call, 1, "v"); r.Source != d2.Message || r.Attempt != 1 {
			t.Errorf("got source %v attempt %d, want %v 1", r.Source, r.Attempt, d2.Message)
		}
		p.ends(call, broker.EndOK)
	})
}

func TestSpliceRespectsTheOuterDeadline(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		outSend, outReceive := p.pipe(broker.PipeOptions{Timeout: time.Second})
		inSend, inReceive := p.pipe(broker.PipeOptions{})
		read := p.receive(outReceive, 1)
		p.send(&broker.Reply{Handle: outSend, Kind: broker.ReplySplice, Splice: inReceive}, broker.ReplyDelivered)
		p.ends(read, broker.EndExpired)
		p.send(&broker.Reply{Handle: inSend, Body: []byte("v")}, broker.ReplyBuffered) // nobody reads it any more
	})
}

func TestSpliceHoldsTheInnerReplierBack(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		const n = 500
		outSend, outReceive := p.pipe(broker.PipeOptions{CapacityReplies: 10})
		inSend, inReceive := p.pipe(broker.PipeOptions{CapacityReplies: 10})
		p.send(&broker.Reply{Handle: outSend, Kind: broker.ReplySplice, Splice: inReceive}, broker.ReplyBuffered)
		read := p.doWith(broker.Op{Credit: 1, Request: &broker.Receive{Handle: outReceive}})
		expect[*broker.Attached](p, read)
		var held []uint64
		for i := range n {
			held = append(held, p.doWith(broker.Op{Timeout: 10 * time.Second, Request: &broker.Reply{
				Handle: inSend, Kind: broker.ReplyPayload, Body: fmt.Append(nil, i), More: true,
			}}))
		}
		synctest.Wait()
		done := 0
		for _, op := range held {
			if _, ok := p.poll(op); ok {
				done++
			}
		}
		if done > 25 {
			t.Errorf("%d replies went through with nobody reading, want about 20", done)
		}
		_ = read
	})
}

func TestSpliceStreamsEverything(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		const n = 500
		outSend, outReceive := p.pipe(broker.PipeOptions{CapacityReplies: 10})
		inSend, inReceive := p.pipe(broker.PipeOptions{CapacityReplies: 10})
		p.send(&broker.Reply{Handle: outSend, Kind: broker.ReplySplice, Splice: inReceive}, broker.ReplyBuffered)
		read := p.doWith(broker.Op{Credit: 1, Request: &broker.Receive{Handle: outReceive}})
		expect[*broker.Attached](p, read)
		for i := range n {
			op := p.doWith(broker.Op{Timeout: 10 * time.Second, Request: &broker.Reply{
				Handle: inSend, Kind: broker.ReplyPayload, Body: fmt.Append(nil, i), More: true,
			}})
			p.replies(read, uint64(i+1), fmt.Sprint(i))
			p.s.Credit(read, 1)
			expect[*broker.ReplyResult](p, op)
		}
		p.send(&broker.Reply{Handle: inSend}, broker.ReplyDelivered)
		if end := p.ends(read, broker.EndOK); end.LastSequence != n {
			t.Errorf("ended after %d, want %d", end.LastSequence, n)
		}
	})
}

func TestSpliceCyclesEnd(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p := b.attach("p")
		aSend, aReceive := p.pipe(broker.PipeOptions{})
		bSend, bReceive := p.pipe(broker.PipeOptions{})
		p.refused(p.do(&broker.Reply{Handle: aSend, Kind: broker.ReplySplice, Splice: aReceive}), broker.ReasonHandleCycle, "splice")
		p.send(&broker.Reply{Handle: aSend, Kind: broker.ReplySplice, Splice: bReceive}, broker.ReplyBuffered)
		p.refused(p.do(&broker.Reply{Handle: bSend, Kind: broker.ReplySplice, Splice: aReceive}), broker.ReasonHandleCycle, "splice")
		p.send(&broker.Reply{Handle: bSend, Body: []byte("v")}, broker.ReplyDelivered)
		read := p.receive(aReceive, 1)
		p.replies(read, 1, "v")
		p.ends(read, broker.EndOK)
	})
}

func TestSpliceCycleAcrossShardsEndsBroken(t *testing.T) {
	inBed(t, broker.Config{Shards: 3}, func(t *testing.T, b *bed) {
		p := b.attach("p")
		aSend, aReceive := p.pipe(broker.PipeOptions{})
		bSend, bReceive := p.pipe(broker.PipeOptions{})
		cSend, cReceive := p.pipe(broker.PipeOptions{})
		read := p.receive(aReceive, 1)
		p.send(&broker.Reply{Handle: aSend, Kind: broker.ReplySplice, Splice: bReceive}, broker.ReplyDelivered)
		p.send(&broker.Reply{Handle: bSend, Kind: broker.ReplySplice, Splice: cReceive}, broker.ReplyDelivered)
		p.send(&broker.Reply{Handle: cSend, Kind: broker.ReplySplice, Splice: aReceive}, broker.ReplyDelivered)
		p.ends(read, broker.EndBroken)
	})
}

func TestSpliceChains(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{})
		read := p.receive(receive, 1)
		for range 16 {
			nextSend, nextReceive := p.pipe(broker.PipeOptions{})
			p.do(&broker.Reply{Handle: send, Kind: broker.ReplySplice, Splice: nextReceive})
			send = nextSend
		}
		if _, lastReceive := p.pipe(broker.PipeOptions{}); b.shards == 1 {
			p.refused(p.do(&broker.Reply{Handle: send, Kind: broker.ReplySplice, Splice: lastReceive}), broker.ReasonSpliceTooDeep, "splice")
		}
		p.send(&broker.Reply{Handle: send, Body: []byte("v")}, broker.ReplyDelivered)
		p.replies(read, 1, "v")
		p.ends(read, broker.EndOK)
	})
}

func TestSpliceWithAnEndedPipe(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		outSend, outReceive := p.pipe(broker.PipeOptions{})
		inSend, inReceive := p.pipe(broker.PipeOptions{})
		p.send(&broker.Reply{Handle: inSend, Body: []byte("v")}, broker.ReplyBuffered)
		p.send(&broker.Reply{Handle: outSend, Kind: broker.ReplySplice, Splice: inReceive}, broker.ReplyBuffered)
		read := p.receive(outReceive, 1)
		p.replies(read, 1, "v")
		p.ends(read, broker.EndOK)
	})
}

// TestSpliceAnswersWhoWaitsForRoom: another session's reply that waits for room in a pipe learns at once that the pipe was
// spliced.
func TestSpliceAnswersWhoWaitsForRoom(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p, other := b.attach("p"), b.attach("other")
		outer, _ := p.pipe(broker.PipeOptions{CapacityReplies: 1})
		_, inner := p.pipe(broker.PipeOptions{})
		p.send(&broker.Reply{Handle: outer, Body: []byte("fills it"), More: true}, broker.ReplyBuffered)
		late := other.doWith(broker.Op{Timeout: time.Minute, Request: &broker.Reply{
			Handle: outer, Kind: broker.ReplyPayload, Body: []byte("late"), More: true,
		}})
		other.quiet(late)
		start := time.Now()
		p.send(&broker.Reply{Handle: outer, Kind: broker.ReplySplice, Splice: inner}, broker.ReplyBuffered)
		if r := expect[*broker.ReplyResult](other, late); r.Outcome != broker.ReplyEnded || time.Since(start) != 0 {
			t.Errorf("got %+v after %v, want ENDED at once", *r, time.Since(start))
		}
	})
}
