package broker

import (
	"fmt"
	"time"

	"github.com/replyq/replyq/handles"
)

// What a history asks for: requests made at random out of what is known so far.

// request makes a random request out of what is known so far.
func (h *history) request() Request {
	switch n := h.rand.IntN(100); {
	case n < 22:
		return h.enqueue(true)
	case n < 30:
		return h.consume()
	case n < 34:
		return &OpenPipe{Options: h.pipeOptions()}
	case n < 55:
		return h.reply(true)
	case n < 80:
		return h.settle()
	case n < 87:
		if hd, ok := pick(h, h.receive); ok {
			return &Receive{Handle: hd, FromSequence: uint64(h.rand.IntN(3))}
		}
	case n < 91:
		if hd, ok := pick(h, h.receive); ok {
			return &Cancel{Handle: hd}
		}
	case n < 94:
		if hd, ok := pick(h, h.leases); ok {
			return &ExtendLeases{Leases: []handles.Handle{hd}}
		}
	case n < 95:
		if hd, ok := pick(h, append(h.receive[:len(h.receive):len(h.receive)], h.send...)); ok {
			return &Describe{Handle: hd}
		}
	case n < 96:
		return &ListQueues{}
	default:
		if r := h.administer(); r != nil {
			return r
		}
	}
	return nil
}

func (h *history) consume() *Consume {
	c := &Consume{Queues: []string{h.queue()}, LeaseTime: time.Duration(1+h.rand.IntN(20)) * time.Second}
	if h.chance(30) {
		c.Queues = h.queues
	}
	if h.chance(10) {
		c.Wait = time.Duration(1+h.rand.IntN(20)) * time.Second
	}
	if h.chance(10) {
		c.MaxDeliveries = uint64(1 + h.rand.IntN(3))
	}
	if h.chance(50) {
		c.ConsumerID = fmt.Sprint("consumer", h.rand.IntN(3))
		c.Grace = time.Duration(h.rand.IntN(10)) * time.Second
	}
	for h.chance(60) {
		if hd, ok := pick(h, h.leases); ok {
			c.Held = append(c.Held, hd)
		}
	}
	return c
}

// administer makes a random request of an administrator.
func (h *history) administer() Request {
	q := h.queue()
	switch h.rand.IntN(16) {
	case 0, 12:
		return &CreateQueue{Queue: q, Config: h.config()}
	case 1, 2:
		return &UpdateQueue{Queue: q, Config: h.config(), Fields: ConfigFields(h.rand.Uint32()) & ConfigAll}
	case 4, 5, 6:
		r := &RedriveMessages{Queue: q, Messages: h.messages()}
		if h.chance(50) {
			r.Target = h.queue()
		}
		return r
	case 7, 8:
		return &ListMessages{Queue: q, State: MessageState(h.rand.IntN(5)), Limit: 1 + h.rand.IntN(3)}
	case 9:
		return &DeleteMessages{Queue: q, Messages: h.messages()}
	case 10, 11:
		if hd, ok := pick(h, h.receive); ok && h.chance(50) {
			return &EndPipe{Handle: hd}
		}
		if id, ok := pick(h, h.ids); ok {
			return &EndPipe{Message: id}
		}
		return nil
	case 3:
		return &DeleteQueue{Queue: q, Force: h.chance(70)}
	default:
		states := []MessageState{0, MessageReady, MessageDelayed, MessageDead}
		return &PurgeQueue{Queue: q, State: states[h.rand.IntN(len(states))]}
	}
}

func (h *history) config() QueueConfig {
	return QueueConfig{
		MaxLength: uint64(h.rand.IntN(6)), MaxBytes: uint64(h.rand.IntN(50)), DropOldest: h.chance(50),
		DefaultExpiry: time.Duration(h.rand.IntN(60)) * time.Second, LeaseTime: time.Duration(h.rand.IntN(20)) * time.Second,
		MaxFailures: uint32(h.rand.IntN(4)), Backoff: time.Duration(h.rand.IntN(5)) * time.Second,
		GroupConcurrency: uint32(h.rand.IntN(3)), Paused: h.chance(20), MaxDead: uint32(h.rand.IntN(4)),
	}
}

func (h *history) pipeOptions() PipeOptions {
	o := PipeOptions{
		Timeout: time.Duration(1+h.rand.IntN(300)) * time.Second, DisconnectGrace: time.Duration(1+h.rand.IntN(10)) * time.Second,
		KeepIfAbandoned: h.chance(20), CapacityReplies: uint32(h.rand.IntN(4)), Retain: time.Duration(h.rand.IntN(20)) * time.Second,
	}
	from := h.send
	if h.chance(50) {
		from = h.receive
	}
	if hd, ok := pick(h, from); ok && h.chance(30) {
		o.Parent = hd
	}
	return o
}

func (h *history) enqueue(mayCall bool) *Enqueue {
	e := &Enqueue{Queue: h.queue(), Body: []byte("payload"), Cargo: h.cargo()}
	if h.chance(20) {
		e.Delay = time.Duration(h.rand.IntN(20)) * time.Second
	}
	if h.chance(10) {
		e.Expiry = time.Duration(1+h.rand.IntN(30)) * time.Second
	}
	e.RequireConsumer = mayCall && h.chance(20)
	if mayCall && h.chance(10) {
		e.Key = &Key{ID: [16]byte{byte(h.rand.IntN(5))}, Content: [16]byte{byte(h.rand.IntN(2))}}
	}
	if h.chance(30) {
		e.Priority = uint8(h.rand.IntN(priorities))
	}
	if h.chance(30) {
		e.Group = []string{"g", "h"}[h.rand.IntN(2)]
	}
	if hd, ok := pick(h, h.send); ok && h.chance(40) {
		e.ReplyTo = hd
	} else if mayCall && h.chance(80) {
		o := h.pipeOptions()
		e.Pipe, e.Call = &o, h.chance(70)
	}
	return e
}

func (h *history) cargo() (c Cargo) {
	for i := range h.rand.IntN(3) {
		from := h.send
		if h.chance(40) {
			from = h.receive
		}
		if hd, ok := pick(h, from); ok && h.chance(50) {
			c.Handles = append(c.Handles, NamedHandle{fmt.Sprint("h", i), hd})
		}
	}
	if hd, ok := pick(h, h.send); ok && h.chance(5) {
		c.Found = append(c.Found, hd)
	}
	return c
}

func (h *history) reply(mayLease bool) Request {
	hd, ok := pick(h, h.send)
	if !ok {
		return nil
	}
	r := &Reply{Handle: hd, Kind: ReplyPayload, Body: []byte("reply"), More: h.chance(60), Cargo: h.cargo()}
	switch n := h.rand.IntN(100); {
	case n < 10:
		r.Kind, r.More = ReplyError, false
	case n < 30:
		if inner, ok := pick(h, h.receive); ok {
			r.Kind, r.Splice, r.More = ReplySplice, inner, false
		}
	case n < 40:
		r.Kind, r.Body = ReplyNothing, nil
	}
	if h.chance(10) {
		r.ID = fmt.Sprint(h.rand.IntN(3))
	}
	if lease, ok := pick(h, h.leases); ok && mayLease && h.chance(60) {
		r.Lease, r.Ack = lease, h.chance(50)
	}
	return r
}

func (h *history) settle() Request {
	lease, ok := pick(h, h.leases)
	if !ok {
		return nil
	}
	s := &Settle{Lease: lease, Action: SettleAction(1 + h.rand.IntN(4)), KeepHandles: h.chance(10)}
	if h.chance(50) {
		s.Action = Ack
	}
	if s.Action == Retry {
		s.Delay = time.Duration(h.rand.IntN(5)) * time.Second
	}
	for range h.rand.IntN(3) {
		if r, ok := h.reply(false).(*Reply); ok && h.chance(50) {
			s.Replies = append(s.Replies, r)
		}
	}
	for range h.rand.IntN(3) {
		if h.chance(50) {
			s.Messages = append(s.Messages, h.enqueue(false))
		}
	}
	return s
}
