package badinput

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// A Fixture is what there is on a server before something bad is sent to it.
type Fixture struct {
	// Pipe is open, and Ended has ended OK.
	Pipe, Ended Pipe
	// FullPipe has room for one reply, and has it; nobody reads.
	FullPipe Pipe
	// Chain is the outermost of 17 pipes, each spliced into the next.
	Chain Pipe
	// Lease is in force, Settled was acked, Stale is of an attempt before the present one, and NotYours is another
	// principal's.
	Lease, Settled, Stale, NotYours *queuepb.Handle

	ring  *handles.KeyRing
	proto handles.Handle // some genuine handle: tenant and store
}

// A Pipe has two ends.
type Pipe struct{ Send, Receive *queuepb.Handle }

// Names on the server that the catalogue speaks of.
const (
	fullQueue   = "full"   // has room for one message, and has it
	leasedQueue = "leased" // of which Lease and the others are
	keyedQueue  = "keyed"  // in which usedKey was used
	usedKey     = "used"
	takenID     = "taken" // of another principal's consumer
)

// Clients are what [Prepare] needs: two principals of a tenant, each by a context with its credentials.
type Clients struct {
	Queues      queuepb.QueueServiceClient
	Admin       queuepb.AdminServiceClient
	Mine, Other context.Context // they say who calls
}

// Prepare sets a server up whose handles this key ring can mint. Consumers stay until the contexts end.
func Prepare(c Clients, ring *handles.KeyRing) (*Fixture, error) {
	f := &Fixture{ring: ring}
	var err error
	steps := []func(Clients) error{f.openPipes, f.spliceChain, f.takeLeases, f.takeOthers, f.fill}
	for _, step := range steps {
		err = errors.Join(err, step(c))
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the server: %w", err)
	}
	f.proto, err = handles.Parse(f.Pipe.Send.Token)
	return f, err
}

func openPipe(c Clients) (Pipe, error) { return openPipeWith(c, nil) }

func openPipeWith(c Clients, o *queuepb.PipeOptions) (Pipe, error) {
	p, err := c.Queues.OpenPipe(c.Mine, &queuepb.OpenPipeRequest{Pipe: o})
	return Pipe{p.GetSendHandle(), p.GetReceiveHandle()}, err
}

func (f *Fixture) openPipes(c Clients) (err error) {
	if f.Pipe, err = openPipe(c); err != nil {
		return err
	}
	if f.Ended, err = openPipe(c); err != nil {
		return err
	}
	if _, err = c.Queues.Reply(c.Mine, &queuepb.ReplyRequest{Handle: f.Ended.Send}); err != nil {
		return err
	}
	if f.FullPipe, err = openPipeWith(c, &queuepb.PipeOptions{CapacityReplies: 1}); err != nil {
		return err
	}
	_, err = c.Queues.Reply(c.Mine, &queuepb.ReplyRequest{
		Handle: f.FullPipe.Send, Body: &queuepb.ReplyRequest_Payload{}, More: true,
	})
	return err
}

// spliceChain makes the chain from its inner end.
func (f *Fixture) spliceChain(c Clients) error {
	var err error
	if f.Chain, err = openPipe(c); err != nil {
		return err
	}
	for range 16 {
		outer, err := openPipe(c)
		if err != nil {
			return err
		}
		if _, err := c.Queues.Reply(c.Mine, &queuepb.ReplyRequest{
			Handle: outer.Send, Body: &queuepb.ReplyRequest_Splice{Splice: f.Chain.Receive},
		}); err != nil {
			return err
		}
		f.Chain = outer
	}
	return nil
}

// consume gets deliveries of a queue.
func consume(ctx context.Context, c Clients, request *queuepb.ConsumeRequest) (func() (*queuepb.Delivery, error), error) {
	stream, err := c.Queues.Consume(ctx, request)
	if err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); err != nil { // started
		return nil, err
	}
	return func() (*queuepb.Delivery, error) { return nextDelivery(stream) }, nil
}

func nextDelivery(stream grpc.ServerStreamingClient[queuepb.ConsumeResponse]) (*queuepb.Delivery, error) {
	res, err := stream.Recv()
	if err == nil && res.GetDelivery() == nil {
		err = errors.New("no delivery")
	}
	return res.GetDelivery(), err
}

func (f *Fixture) takeLeases(c Clients) error {
	next, err := consume(c.Mine, c, &queuepb.ConsumeRequest{
		Queues: []string{leasedQueue}, MaxInFlight: 10, LeaseTime: durationpb.New(time.Hour),
	})
	if err != nil {
		return err
	}
	take := func() (*queuepb.Handle, error) {
		if _, err := c.Queues.Enqueue(c.Mine, &queuepb.EnqueueRequest{Queue: leasedQueue}); err != nil {
			return nil, err
		}
		d, err := next()
		return d.GetLease(), err
	}
	for _, lease := range []**queuepb.Handle{&f.Lease, &f.Settled, &f.Stale} {
		if *lease, err = take(); err != nil {
			return err
		}
	}
	if _, err := c.Queues.Settle(c.Mine, &queuepb.SettleRequest{Lease: f.Settled}); err != nil {
		return err
	}
	if _, err := c.Queues.Settle(c.Mine, &queuepb.SettleRequest{
		Lease: f.Stale, Action: queuepb.SettleAction_SETTLE_ACTION_RELEASE,
	}); err != nil {
		return err
	}
	_, err = next() // the next attempt
	return err
}

// takeOthers lets another principal have a lease, and a consumer id.
func (f *Fixture) takeOthers(c Clients) error {
	if _, err := c.Queues.Enqueue(c.Other, &queuepb.EnqueueRequest{Queue: "others"}); err != nil {
		return err
	}
	next, err := consume(c.Other, c, &queuepb.ConsumeRequest{Queues: []string{"others"}, ConsumerId: takenID})
	if err != nil {
		return err
	}
	d, err := next()
	f.NotYours = d.GetLease()
	return err
}

func (f *Fixture) fill(c Clients) error {
	_, err := c.Admin.CreateQueue(c.Mine, &queuepb.CreateQueueRequest{
		Name: fullQueue, Config: &queuepb.QueueConfig{MaxLength: 1},
	})
	if err == nil {
		_, err = c.Queues.Enqueue(c.Mine, &queuepb.EnqueueRequest{Queue: fullQueue})
	}
	if err == nil {
		_, err = c.Queues.Enqueue(c.Mine, &queuepb.EnqueueRequest{Queue: keyedQueue, IdempotencyKey: usedKey})
	}
	return err
}

// far is an expiry that no test reaches.
const far = 1 << 32

// mint makes a genuine handle of a pipe or message that never was.
func (f *Fixture) mint(kind handles.Kind, change func(*handles.Claims)) *queuepb.Handle {
	claims := handles.Claims{
		Kind: kind, Tenant: f.proto.Tenant(), Shard: f.proto.Shard(), Store: f.proto.Store(),
		Slot: 4711, Nonce: 1, Expires: far,
	}
	change(&claims)
	return token(f.ring.Mint(claims).Text())
}

func (f *Fixture) unknown(kind handles.Kind) *queuepb.Handle {
	return f.mint(kind, func(*handles.Claims) {})
}

// foreign is another tenant's.
func (f *Fixture) foreign(kind handles.Kind) *queuepb.Handle {
	return f.mint(kind, func(c *handles.Claims) { c.Tenant += 1000 })
}

func (f *Fixture) expired(kind handles.Kind) *queuepb.Handle {
	return f.mint(kind, func(c *handles.Claims) { c.Expires = 0 })
}

// noShard names a shard that there is not.
func (f *Fixture) noShard(kind handles.Kind) *queuepb.Handle {
	return f.mint(kind, func(c *handles.Claims) { c.Shard = 60_000 })
}

// reused has a slot in use, and another nonce than that.
func (f *Fixture) reused(kind handles.Kind) *queuepb.Handle {
	return f.mint(kind, func(c *handles.Claims) { c.Slot = f.proto.Slot() })
}

// flipped is genuine but for one bit of its tag.
func flipped(h *queuepb.Handle) *queuepb.Handle {
	b := []byte(h.Token)
	if b[60]++; b[60] != 'B' { // of an A
		b[60] = 'A'
	}
	return token(string(b))
}

func token(text string) *queuepb.Handle { return &queuepb.Handle{Token: text} }

// Sample is a fixture of no server: everything in it is well formed, and there is nothing behind it.
func Sample(ring *handles.KeyRing) *Fixture {
	f := &Fixture{ring: ring}
	n := uint32(0)
	mint := func(kind handles.Kind) *queuepb.Handle {
		n++
		h := ring.Mint(handles.Claims{Kind: kind, Tenant: 1, Slot: n, Nonce: uint64(n), Expires: far})
		f.proto = h
		return token(h.Text())
	}
	for _, pipe := range []*Pipe{&f.Pipe, &f.Ended, &f.FullPipe, &f.Chain} {
		pipe.Send, pipe.Receive = mint(handles.Send), mint(handles.Receive)
	}
	for _, lease := range []**queuepb.Handle{&f.Lease, &f.Settled, &f.Stale, &f.NotYours} {
		*lease = mint(handles.Lease)
	}
	return f
}
