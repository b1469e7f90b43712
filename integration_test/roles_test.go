package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/replyq/replyq/client"
)

// The parts of the story in Go, with package client: what python/*.py and node/*.js are in their languages. The test
// binary plays a part when it is started with this variable.
const roleVariable = "REPLYQ_TEST_ROLE"

// roles are the parts, by name.
var roles = map[string]func(*part) error{
	"producer": (*part).producer,
	"waiter":   (*part).waiter,
	"replier":  (*part).replier,
	"consumer": (*part).consumer,
	"caller":   (*part).caller, // see caller_test.go
	"worker":   (*part).worker, // of the load test
}

// A part is a program while it runs.
type part struct {
	client *client.Client

	queue, payload, replyTo, follow, confirm string
	what, to, consumerID                     string
	pipe, wait, more                         bool
	first                                    uint64
	inFlight, lease                          int
	grace, timeout                           float64
	handles, calls, receives                 repeated
}

// playRole is the main function of the programs.
func playRole(role string, args []string) (code int) {
	var p part
	var server, key string
	flags := flag.NewFlagSet(role, flag.ExitOnError)
	flags.StringVar(&server, "server", "127.0.0.1:7420", "host and port")
	flags.StringVar(&key, "key", "", "API key")
	flags.StringVar(&p.queue, "queue", "", "queue")
	flags.StringVar(&p.payload, "payload", "", "payload")
	flags.StringVar(&p.replyTo, "reply-to", "", "send handle, for answers to somebody else")
	flags.Var(&p.handles, "handle", "waiter, replier: TOKEN; producer: NAME=TOKEN, may be repeated")
	flags.StringVar(&p.follow, "follow", "", "await the future that a reply carries under this name")
	flags.StringVar(&p.confirm, "confirm", "", "reply through the handle that a reply carries under this name")
	flags.StringVar(&p.what, "do", "echo", "what to do with a delivery")
	flags.StringVar(&p.to, "to", "", "with splice and forward: where the work is done")
	flags.StringVar(&p.consumerID, "consumer-id", "", "consumer id")
	flags.IntVar(&p.inFlight, "in-flight", 4, "how many deliveries a consumer holds at a time")
	flags.IntVar(&p.lease, "lease", 0, "seconds of a consumer's leases; 0 for the default")
	flags.BoolVar(&p.pipe, "pipe", false, "have a pipe opened, and print its receive handle")
	flags.BoolVar(&p.wait, "wait", false, "wait for the answers")
	flags.BoolVar(&p.more, "more", false, "keep the pipe open")
	flags.Uint64Var(&p.first, "from", 1, "the first reply wanted")
	flags.Float64Var(&p.grace, "grace", 10, "seconds that the answers wait if this program is cut")
	flags.Var(&p.calls, "call", "a CallRequest in JSON, may be repeated")
	flags.Var(&p.receives, "receive", "a ReceiveRequest in JSON, may be repeated")
	flags.Float64Var(&p.timeout, "timeout", 0, "seconds to wait")
	_ = flags.Parse(args) // exits by itself
	var err error
	if p.client, err = client.New(server, client.WithAPIKey(key)); err == nil {
		err = errors.Join(roles[role](&p), p.client.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

// repeated is a flag that may be given several times.
type repeated []string

// String implements flag.Value.
func (r *repeated) String() string { return strings.Join(*r, " ") }

// Set implements flag.Value.
func (r *repeated) Set(s string) error {
	*r = append(*r, s)
	return nil
}

var printing sync.Mutex

func emit(e event) {
	line, err := json.Marshal(e)
	if err != nil {
		line = []byte(err.Error())
	}
	printing.Lock()
	defer printing.Unlock()
	fmt.Println(string(line))
}

// producer puts a message on a queue; with --wait it stays for the answers.
func (p *part) producer() error {
	message := client.Message{Payload: []byte(p.payload)}
	err := message.ReplyTo.UnmarshalText([]byte(p.replyTo))
	for _, n := range p.handles {
		name, token, _ := strings.Cut(n, "=")
		err = errors.Join(err, setHandle(&message.Handles, name, token))
	}
	if err != nil {
		return err
	}
	ctx := context.Background()
	if p.wait {
		return p.call(ctx, message)
	}
	var options []client.EnqueueOption
	if p.pipe {
		options = append(options, client.WithPipe(client.PipeOptions{}))
	}
	receipt, err := p.client.Enqueue(ctx, p.queue, message, options...)
	if err != nil {
		printStatus(err)
		return nil
	}
	printReceipt(receipt)
	return nil
}

func (p *part) call(ctx context.Context, message client.Message) error {
	grace := time.Duration(p.grace * float64(time.Second))
	call := p.client.Call(ctx, p.queue, message, client.WithPipe(client.PipeOptions{DisconnectGrace: grace}))
	receipt, err := call.Receipt()
	if err != nil {
		printStatus(err)
		return nil
	}
	printReceipt(receipt)
	var futures []*client.Future[client.Reply]
	printPipe(call.Replies(), func(r client.Reply) {
		if h, ok := r.Handles[p.follow]; ok {
			futures = append(futures, client.NewFuture[client.Reply](p.client, h))
		}
		if h, ok := r.Handles[p.confirm]; ok {
			printOutcome(p.client.Reply(ctx, h, client.Answer{Payload: []byte("confirmed")}))
		}
	})
	for _, f := range futures {
		printPipe(p.client.Receive(ctx, f.Handle(), 1), func(client.Reply) {})
	}
	return nil
}

// waiter awaits a future.
func (p *part) waiter() error {
	ctx := context.Background()
	if p.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.Duration(p.timeout*float64(time.Second)))
		defer stop()
	}
	var future client.Future[client.Reply]
	if err := future.UnmarshalText([]byte(p.handles.String())); err != nil {
		return err
	}
	printPipe(p.client.Receive(ctx, future.Handle(), p.first), func(client.Reply) {})
	return nil
}

// replier replies through a send handle.
func (p *part) replier() error {
	var options []client.ReplyOption
	if p.more {
		options = append(options, client.WithMore())
	}
	send, err := parseHandle(p.handles.String())
	if err != nil {
		return err
	}
	printOutcome(p.client.Reply(context.Background(), send.ReplyTo, client.Answer{Payload: []byte(p.payload)}, options...))
	return nil
}

// parseHandle reads a token, into the ReplyTo of a message for want of a type's name.
func parseHandle(token string) (m client.Message, err error) {
	return m, m.ReplyTo.UnmarshalText([]byte(token))
}

// setHandle sets one entry of a map of handles.
func setHandle[H any, P interface {
	*H
	UnmarshalText(text []byte) error
}](handles *map[string]H, name, token string) error {
	var h H
	if err := P(&h).UnmarshalText([]byte(token)); err != nil {
		return err
	}
	if *handles == nil {
		*handles = make(map[string]H)
	}
	(*handles)[name] = h
	return nil
}

// consumer consumes a queue, and does with each message what --do says.
func (p *part) consumer() error {
	ctx := context.Background()
	consumer, err := p.client.Consume(ctx, client.ConsumeConfig{
		MaxInFlight: p.inFlight, LeaseTime: time.Duration(p.lease) * time.Second, ConsumerID: p.consumerID}, p.queue)
	if err != nil {
		printStatus(err)
		return nil
	}
	emit(event{Event: "started", ConsumerID: consumer.ID()})
	for d, err := range consumer.Deliveries(ctx) {
		if err != nil {
			printStatus(err)
			return nil
		}
		emit(event{Event: "delivery", MessageID: d.MessageID, Attempt: d.Attempt, Payload: string(d.Payload),
			ReplyTo: d.ReplyTo().Text(), Handles: texts(d.Handles), EndedHandles: d.EndedHandles})
		if err := actions[p.what](ctx, p, d); err != nil {
			return fmt.Errorf("%s: %w", p.what, err)
		}
	}
	emit(event{Event: "status", Code: codes.OK.String()})
	return nil
}

// actions are what may be done with a message.
var actions = map[string]func(context.Context, *part, *client.Delivery) error{
	"echo": func(ctx context.Context, _ *part, d *client.Delivery) error {
		printOutcome(d.Reply(ctx, answer(strings.ToUpper(string(d.Payload)))))
		return nil
	},
	"stream": func(ctx context.Context, _ *part, d *client.Delivery) error {
		for _, text := range []string{"part 1", "part 2", "part 3"} {
			printOutcome(d.ReplyMore(ctx, answer(text)))
		}
		result, err := d.Settle(ctx, client.Settlement{Replies: []client.SettleReply{{}}})
		if err != nil {
			return err
		}
		printOutcome(result.Replies[0], nil)
		return nil
	},
	"half": func(ctx context.Context, _ *part, d *client.Delivery) error {
		printOutcome(d.ReplyMore(ctx, answer("half")))
		return nil
	},
	"fail": func(ctx context.Context, _ *part, d *client.Delivery) error {
		page, err := anypb.New(wrapperspb.String("page 7"))
		if err != nil {
			return err
		}
		printOutcome(d.ReplyError(ctx, &client.Error{
			Code: codes.NotFound, Reason: "NO_SUCH_REPORT", Message: "there is no report 7",
			Metadata: map[string]string{"report": "7"}, Details: []*anypb.Any{page},
		}))
		return nil
	},
	"ack": func(ctx context.Context, _ *part, d *client.Delivery) error {
		err := d.Ack(ctx)
		emit(event{Event: "settled"})
		return err
	},
	"hold": func(_ context.Context, _ *part, d *client.Delivery) error {
		context.AfterFunc(d.Context(), func() {
			switch cause := context.Cause(d.Context()); {
			case errors.Is(cause, client.ErrWaiterGone):
				emit(event{Event: "waiter_gone", MessageID: d.MessageID})
			case errors.Is(cause, client.ErrLeaseLost):
				emit(event{Event: "lease_lost", MessageID: d.MessageID})
			}
		})
		return nil
	},
	"promise": func(ctx context.Context, p *part, d *client.Delivery) error {
		pipe, err := p.client.OpenPipe(ctx, client.PipeOptions{})
		if err != nil {
			return err
		}
		a := answer("later")
		if err := setHandle(&a.Handles, "result", pipe.Receive.Text()); err != nil {
			return err
		}
		printOutcome(d.Reply(ctx, a))
		emit(event{Event: "promised", SendHandle: pipe.Send.Text()})
		return nil
	},
	"splice": func(ctx context.Context, p *part, d *client.Delivery) error {
		inner := client.Message{Payload: d.Payload}
		receipt, err := p.client.Enqueue(ctx, p.to, inner, client.WithPipe(client.PipeOptions{}))
		if err != nil {
			return err
		}
		printOutcome(d.Splice(ctx, receipt.ReceiveHandle))
		return nil
	},
	"forward": func(ctx context.Context, p *part, d *client.Delivery) error {
		_, err := d.Settle(ctx, client.Settlement{Messages: []client.Item{{Queue: p.to, Message: d.Message()}}})
		emit(event{Event: "settled"})
		return err
	},
	"notify": func(ctx context.Context, p *part, d *client.Delivery) error {
		all := texts(d.Handles)
		if err := json.Unmarshal(d.Payload, &all); err != nil { // adds to what is there
			return err
		}
		for name, token := range all {
			send, err := parseHandle(token)
			if err != nil {
				return err
			}
			printOutcome(p.client.Reply(ctx, send.ReplyTo, answer("noted "+name)))
		}
		printOutcome(d.Reply(ctx, answer("done")))
		return nil
	},
	"confirm": func(ctx context.Context, p *part, d *client.Delivery) error {
		pipe, err := p.client.OpenPipe(ctx, client.PipeOptions{})
		if err != nil {
			return err
		}
		a := answer("please confirm")
		if err := setHandle(&a.Handles, "confirm", pipe.Send.Text()); err != nil {
			return err
		}
		printOutcome(d.Reply(ctx, a))
		text, err := client.NewFuture[string](p.client, pipe.Receive).Await(ctx)
		emit(event{Event: "confirmed", Payload: text})
		return err
	},
}

func answer(text string) client.Answer { return client.Answer{Payload: []byte(text)} }

// texts turns a map of handles into what JSON can hold.
func texts[H interface{ Text() string }](handles map[string]H) map[string]string {
	all := make(map[string]string, len(handles))
	for name, h := range handles {
		all[name] = h.Text()
	}
	return all
}

// printPipe prints what comes through a pipe, up to its end, and the status that a stub would see.
func printPipe(replies iter.Seq2[client.Reply, error], onReply func(client.Reply)) {
	tellPipe(replies, emit, onReply)
}

// tellPipe does so to whoever wants to know.
func tellPipe(replies iter.Seq2[client.Reply, error], emit func(event), onReply func(client.Reply)) {
	last := uint64(0)
	for r, err := range replies {
		if err != nil {
			if end, ok := endEvent(err); ok {
				emit(end)
			}
			emit(statusEvent(err))
			return
		}
		last = r.Sequence
		emit(event{Event: "reply", Sequence: r.Sequence, Payload: string(r.Payload), Attempt: r.Attempt,
			Handles: texts(r.Handles)})
		onReply(r)
	}
	emit(event{Event: "end", Reason: string(client.EndOK), Sequence: last})
	emit(event{Event: "status", Code: codes.OK.String()})
}

// endEvent is a pipe's end, if the error is one.
func endEvent(err error) (_ event, ok bool) {
	var end *client.EndError
	if !errors.As(err, &end) {
		return event{}, false
	}
	e := &eventError{
		Code:   int32(end.Err.Code), //nolint:gosec // gRPC has 17 codes
		Reason: string(end.Err.Reason), Message: end.Err.Message, Field: end.Err.Field, Metadata: end.Err.Metadata,
	}
	for _, any := range end.Err.Details {
		e.Details = append(e.Details, eventDetail{any.TypeUrl, any.Value})
	}
	return event{Event: "end", Reason: string(end.Reason), Sequence: end.LastSequence, Error: e}, true
}

func printReceipt(r client.Receipt) {
	emit(event{Event: "receipt", MessageID: r.MessageID, ReceiveHandle: r.ReceiveHandle.Text()})
}

func printOutcome(o client.ReplyOutcome, err error) {
	if err != nil {
		printStatus(err)
		return
	}
	emit(event{Event: "outcome", Outcome: strings.ToUpper(o.Status.String()), Reason: string(o.Reason),
		Sequence: o.Sequence})
}

// printStatus prints an error as a stub would see it.
func printStatus(err error) { emit(statusEvent(err)) }

// statusEvent is an error as a stub would see it: the code's name is that of the contract.
func statusEvent(err error) event {
	var e *client.Error
	if !errors.As(err, &e) {
		e = &client.Error{Code: status.Code(err), Message: err.Error()}
	}
	names := map[codes.Code]string{
		codes.Canceled: "CANCELLED", codes.InvalidArgument: "INVALID_ARGUMENT", codes.DeadlineExceeded: "DEADLINE_EXCEEDED",
		codes.NotFound: "NOT_FOUND", codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED",
		codes.Unavailable: "UNAVAILABLE", codes.Unauthenticated: "UNAUTHENTICATED",
	}
	return event{Event: "status", Code: names[e.Code], Message: e.Message, Reason: string(e.Reason), Field: e.Field}
}
