package client

import (
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/internal/buffers"
	"github.com/replyq/replyq/internal/wire"
)

// opKind is the field number of a request in Operation, and of its response in Result.
type opKind uint8

const (
	opEnqueue  opKind = 2
	opCall     opKind = 3
	opConsume  opKind = 4
	opReply    opKind = 5
	opSettle   opKind = 6
	opExtend   opKind = 7
	opStop     opKind = 8
	opOpenPipe opKind = 9
	opReceive  opKind = 10
	opCancel   opKind = 11
	opDescribe opKind = 12
	opInfo     opKind = 13
	opBatch    opKind = 14

	resultError opKind = 15 // in Result only
)

// finishes tells whether an operation belongs to finishing what is under way: it is still sent to a server that is
// going away.
func (k opKind) finishes() bool {
	switch k {
	case opReply, opSettle, opExtend, opStop, opCancel, opDescribe:
		return true
	default:
		return false
	}
}

// harmless tells whether repeating an operation is harmless by its nature, also when the server has forgotten that it
// was there before.
func (k opKind) harmless() bool {
	switch k {
	case opEnqueue, opCall, opReply, opBatch:
		return false
	default:
		return true
	}
}

type opState uint8

const (
	opIdle     opState = iota // not submitted
	opQueued                  // in link.queue: no id yet
	opSent                    // in link.unanswered and link.ops
	opAnswered                // in link.ops only: its first result came, more may
	opDone                    // the link knows nothing of it any more
)

// sink gets the results of an operation. Its methods are called by the link's run goroutine, or, before the operation
// could be sent, by its submitter; they must not block.
type sink interface {
	// result hands over one result, which is valid only during the call. The last one has done set.
	result(res *result)
	// resume is called when the stream was lost after the operation had been answered. It returns the body of the
	// operation that goes on in its place, nil if none does. With anew the server has lost its memory.
	resume(anew bool) []byte
}

// result is one result of an operation.
type result struct {
	op   *operation
	id   uint64
	kind opKind
	done bool
	size int    // of the whole Result, as it counts for the session's credit
	body []byte // the response, or the wire's Error; in a buffer that is reused, unless
	kept bool   // body belongs to whom it is handed to
	err  error  // instead of a body: what the client itself has to say
}

// operation is one request of a session, from submission to its last result. It is part of whatever waits for it.
type operation struct {
	sink sink
	// body is the encoded Operation without its id. Only a sink changes it, and only while it is not submitted or after
	// it was answered.
	body []byte
	box  *[]byte // where body goes afterwards; nil if nowhere
	// lent, if not nil, is body as gRPC gets it: the memory goes back to its pool when neither needs it any more.
	lent mem.Buffer
	kind opKind
	// repeatable: repeating it is harmless even if the server has forgotten that it was there before, since it has an
	// idempotency key or a reply id.
	repeatable bool
	// leased: it names a lease, which a server that was started anew does not know.
	leased bool
	// patient: the server may hold its answer back for a moment, since nobody waits for that.
	patient bool
	// credit is how many replies the server may send at first.
	credit uint32

	// What follows belongs to link.mu. The fields are in an order without padding: every call and delivery has them.

	id        uint64
	born      uint64 // link.ticks when it became young
	state     opState
	isYoung   bool
	abandoned bool // nobody waits for its results
	expecting bool // its answer will bring about another operation, which flush waits for
	late      bool // it was sent again when the server may have forgotten that it was there before

	prev, next           *operation // in link.queue or link.unanswered
	youngPrev, youngNext *operation // in link.young
}

// appendTo writes the operation as a field of SessionRequest. What is large of it stays outside, before b[cut:].
func (op *operation) appendTo(b []byte) (_ []byte, cut int) {
	size := 1 + protowire.SizeVarint(op.id) + len(op.body)
	if op.credit != 0 {
		size += 1 + protowire.SizeVarint(uint64(op.credit))
	}
	if op.patient {
		size += 3
	}
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = wire.AppendNumber(b, fieldOperationID, op.id)
	if op.isLarge() {
		cut = len(b)
	} else {
		b = append(b, op.body...)
	}
	b = wire.AppendNumber(b, fieldOperationCredit, uint64(op.credit))
	return wire.AppendFlag(b, fieldOperationPatient, op.patient), cut
}

// isLarge reports whether the body is not copied into the frame. Then it is of no pool for small bodies (maxPooledBody is
// less): nobody may write to it while gRPC has it.
func (op *operation) isLarge() bool { return len(op.body) >= buffers.Large }

// maxOperationOverhead is how much longer than its body an operation is in a frame, at most.
const maxOperationOverhead = 1 + 5 + 11 + 6 + 3

// operations is a list of operations, linked through their own fields.
type operations struct {
	first, last *operation
	n           int
}

func (l *operations) push(op *operation) {
	op.prev, op.next = l.last, nil
	if l.last == nil {
		l.first = op
	} else {
		l.last.next = op
	}
	l.last = op
	l.n++
}

func (l *operations) remove(op *operation) {
	if op.prev == nil {
		l.first = op.next
	} else {
		op.prev.next = op.next
	}
	if op.next == nil {
		l.last = op.prev
	} else {
		op.next.prev = op.prev
	}
	op.prev, op.next = nil, nil
	l.n--
}

// bodies keeps the memory of encoded operations, as *[]byte. Only what is of common size comes back.
var bodies sync.Pool

const maxPooledBody = 16 << 10

// takeBody gives the operation memory for its body.
func (op *operation) takeBody() {
	box, ok := bodies.Get().(*[]byte)
	if !ok {
		box = new([]byte)
	}
	op.box, op.body = box, (*box)[:0]
}

// takeRoom gives the operation memory for a body with a payload of a length, if that is large. Then the body is encoded,
// and lend called. New memory for each large body, and the collector's work for that, was a third of a worker's CPU.
func (op *operation) takeRoom(pool *buffers.Pool, payload int) (large bool) {
	if payload < buffers.Large {
		return false
	}
	op.freeBody()
	op.box = pool.Get(payload + bodyRoom)
	op.body = (*op.box)[:0]
	return true
}

// bodyRoom is how much longer a body mostly is than its payload.
const bodyRoom = 512

// lend makes a body that was encoded into such memory one that gRPC can have as it is.
func (op *operation) lend(pool *buffers.Pool) {
	if cap(op.body) == cap(*op.box) { // else it has outgrown its room
		*op.box = op.body
		op.lent = mem.NewBuffer(op.box, pool)
	} else {
		pool.Put(op.box)
	}
	op.box = nil
}

// freeBody gives it back, when the body is not needed any more.
func (op *operation) freeBody() {
	if op.lent != nil {
		op.lent.Free()
		op.lent = nil
	}
	if op.box != nil && cap(op.body) <= maxPooledBody {
		*op.box = op.body
		bodies.Put(op.box)
	}
	op.box, op.body = nil, nil
}

// fieldOf is the kind as a field number.
func fieldOf(k opKind) protowire.Number { return protowire.Number(k) }
