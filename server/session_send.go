package server

import (
	"runtime"
	"time"

	"github.com/replyq/replyq/broker"
)

// The sending half of a session.

const (
	// A frame is full with so many results or bytes, and never longer than what every client takes.
	// (4 MiB): the last result adds a message of LargestPayload at most.
	fullFrame     = 512
	fullFrameSize = 1 << 19

	// With at most so many operations under way the receiver sends their results itself. Deciding by the size of frames
	// instead was tried: it costs a busy session a third of its throughput.
	fewOps = 2

	// The receiver sends only while less than this was sent since the client last showed that it reads. gRPC takes
	// 64 KiB of a stream without waiting for the network, so that such a Send returns at once, whatever the client does.
	maxUnreadInLine = 32 << 10

	// maxCreditBytes is the most byte credit a session can have.
	maxCreditBytes = 1 << 30

	// sendLimit is how long one Send may take before the client counts as not reading.
	sendLimit = 10 * time.Second
)

// A sender is what whoever sends needs, guarded by session.sendMu.
type sender struct {
	frame    outFrame
	events   []broker.Event // as gathered, from next on not sent
	kinds    []kind         // theirs
	next     int
	items    []broker.Event // of batches, as gathered
	waiting  []heldEvent
	held     map[uint64]int // how many events of an operation are in waiting
	ends     []writtenEnd   // those in the frame
	spent    []broker.Event // those that were put into frames since events were gathered last
	results  uint64         // written in earlier frames
	lastSize int            // results in the last frame
}

// A heldEvent waits for byte credit, or behind one of its operation that does.
type heldEvent struct {
	event broker.Event
	kind  kind
}

// writeLoop is the sender.
func (ss *session) writeLoop() {
	busy := false
	for {
		var items <-chan struct{}
		if b := ss.items.Load(); b != nil {
			items = b.Ready()
		}
		last := false
		select {
		case <-ss.broker.Ready():
		case <-items:
		case <-ss.kick:
		case <-ss.caller.tenure.stopping:
			last = true
		case <-ss.done:
			return
		}
		if busy {
			runtime.Gosched() // receivers are about to bring more: it shares the frame (2 to 4 % of the server's CPU)
		}
		cut := ss.cutOff() // before the events, which may be there by now
		ss.sendMu.Lock()
		err := ss.flush()
		busy = ss.send.lastSize > fewOps
		ss.sendMu.Unlock()
		switch {
		case err != nil:
			ss.finish(err)
			return
		case ss.broker.TakenOver():
			ss.finish(refuse(reasonSessionTakenOver, "",
				"a newer stream has this session id: end this one, and do not reconnect with it"))
			return
		case cut != nil:
			ss.finish(cut)
			return
		case last:
			ss.finish(ss.srv.over())
			return
		case ss.isAnswered():
			ss.finish(nil)
			return
		}
	}
}

// cutOff says why the broker wants the stream ended; nil if it does not.
func (ss *session) cutOff() error {
	if cut := ss.broker.CutOff(); cut != nil {
		return cut
	}
	if items := ss.items.Load(); items != nil {
		if cut := items.CutOff(); cut != nil {
			return cut
		}
	}
	return nil
}

// isAnswered reports whether the client has closed its side and all it asked is answered.
func (ss *session) isAnswered() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.halfClosed && ss.unanswered == 0 && len(ss.local) == 0
}

// sendInLine lets the receiver send, if the sender is idle anyway. It reports whether it did.
func (ss *session) sendInLine() bool {
	if ss.unread.Load() > maxUnreadInLine || !ss.sendMu.TryLock() {
		return false
	}
	defer ss.sendMu.Unlock()
	if ss.send.lastSize > fewOps {
		ss.send.lastSize = 0 // busy just now: leave it to the sender, and look again next time
		return false
	}
	if err := ss.flush(); err != nil {
		ss.finish(err)
	}
	return true
}

// sendHastily lets whoever has brought about a result for this session send it, if hardly anything is under way here: with
// one request in flight, the receiver of the worker's session sends the reply to the caller. It is the broker's Hasty.
func (ss *session) sendHastily() bool {
	ss.mu.Lock()
	few := ss.open.Len()-ss.consumes <= fewOps && !ss.finished
	ss.mu.Unlock()
	return few && ss.sendInLine()
}

// flush sends all that there is to send. The caller holds sendMu.
func (ss *session) flush() error {
	out := &ss.send.frame
	for {
		// The pong first: what the broker has by now is of operations before the ping, and goes out with or before it.
		ss.mu.Lock()
		pong, away := ss.pong, ss.goingAway
		ss.pong, ss.goingAway = 0, nil
		ss.mu.Unlock()
		ss.gather()
		for more := true; more; {
			if more = ss.fill(); !more {
				out.finish(pong, away)
			}
			if len(out.b) == 0 {
				return nil
			}
			if err := ss.write(out); err != nil {
				return err
			}
		}
	}
}

// write sends one frame.
func (ss *session) write(out *outFrame) error {
	ss.send.lastSize = out.results
	ss.send.results += uint64(out.results)
	ss.sending.Store(time.Now().UnixNano())
	err := ss.stream.SendMsg(out)
	ss.sending.Store(0)
	out.reset()
	if len(ss.send.ends) > 0 {
		ss.mu.Lock()
		if ss.confirms {
			ss.written = append(ss.written, ss.send.ends...)
		} else {
			for _, e := range ss.send.ends {
				ss.passed = append(ss.passed, e.op)
			}
		}
		ss.mu.Unlock()
		ss.send.ends = ss.send.ends[:0]
	}
	return err
}

// gather takes the events that wait in the broker, and the server's own. The caller has sent those before.
func (ss *session) gather() {
	s := &ss.send
	ss.linger.flushed()
	ss.broker.Recycle(s.spent)
	clear(s.spent)
	s.spent = s.spent[:0]
	clear(s.events)
	s.events, s.next, s.kinds = ss.broker.Take(s.events[:0]), 0, s.kinds[:0]
	ss.gatherItems()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.events = append(s.events, ss.local...)
	clear(ss.local)
	ss.local = ss.local[:0]
	for i := range s.events {
		s.kinds = append(s.kinds, ss.resolveLocked(&s.events[i]))
	}
}

// gatherItems takes the answers to items of batches.
func (ss *session) gatherItems() {
	b := ss.items.Load()
	if b == nil {
		return
	}
	items := b.Take(ss.send.items[:0])
	ss.mu.Lock()
	for i := range items {
		ss.itemLocked(&items[i])
	}
	ss.mu.Unlock()
	b.Recycle(items)
	clear(items)
	ss.send.items = unlessLarge(items)
}

// kindGone is the kind of operations that are not open any more: the client left them, and wants no results.
const kindGone kind = 255

// resolveLocked finds out which operation an event belongs to, and what follows for it. An operation is answered, and
// its number free, when its result is about to be written and not when it was: the client may be quicker than we.
func (ss *session) resolveLocked(event *broker.Event) kind {
	op := ss.open.Get(event.Op)
	if op == nil {
		return kindGone
	}
	if op.rare {
		if fix := ss.rare[event.Op].fix; fix != nil {
			event.Body = fix(event.Body)
		}
	}
	if !op.answered {
		op.answered = true
		ss.unanswered--
	}
	k := op.kind // closing clears it
	if event.Done {
		ss.closeLocked(event.Op, op)
	}
	return k
}

// itemLocked takes the answer to one item of a batch; the last one completes the batch.
func (ss *session) itemLocked(event *broker.Event) {
	id, place := event.Op>>itemBits, int(event.Op&(1<<itemBits-1))
	b := ss.rare[id].batch
	if b == nil {
		return // unreachable: batches are not detached
	}
	b.set(place, event.Body)
	if b.left == 0 {
		ss.local = append(ss.local, broker.Event{Op: id, Done: true, Body: b})
	}
}

// fill puts results into the frame until it is full. It reports whether there are more for another one.
func (ss *session) fill() (more bool) {
	s := &ss.send
	size := 0
	full := func() bool { return s.frame.results >= fullFrame || size >= fullFrameSize }
	for len(s.waiting) > 0 {
		h := &s.waiting[0]
		if isItem(h.event.Body) && ss.credit.Load() <= 0 {
			break
		}
		if full() {
			return true
		}
		if s.held[h.event.Op]--; s.held[h.event.Op] == 0 {
			delete(s.held, h.event.Op)
		}
		size += ss.add(&h.event, h.kind)
		*h = heldEvent{}
		s.waiting = s.waiting[1:]
	}
	for ; s.next < len(s.events); s.next++ {
		if full() {
			return true
		}
		event, k := &s.events[s.next], s.kinds[s.next]
		if k == kindGone {
			continue
		}
		item := isItem(event.Body)
		if item && ss.credit.Load() <= 0 || len(s.held) > 0 && s.held[event.Op] > 0 {
			s.waiting = append(s.waiting, heldEvent{*event, k})
			s.held[event.Op]++
			continue
		}
		size += ss.add(event, k)
	}
	return false
}

// add puts one result into the frame and returns its size, which for items is also what it takes of the byte credit.
func (ss *session) add(event *broker.Event, k kind) int {
	f := &ss.send.frame
	size := f.add(k, event.Op, event.Done, event.Body)
	if isItem(event.Body) {
		ss.credit.Add(int64(-size))
	} else if _, ok := event.Body.(*broker.End); ok {
		ss.send.ends = append(ss.send.ends, writtenEnd{event.Op, ss.send.results + uint64(f.results)})
	}
	ss.unread.Add(int64(size))
	ss.send.spent = append(ss.send.spent, *event)
	return size
}
