package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/testbed"
)

type handle = handles.Handle

// mustHandle takes the handle "cancel" out of a delivery.
func mustHandle(t *testing.T, d *client.Delivery) handle {
	t.Helper()
	h, ok := d.Handles["cancel"]
	if !ok {
		t.Error("the delivery has no handle named cancel")
	}
	return h
}

func openPipe(ctx context.Context, t testing.TB, c *client.Client, o client.PipeOptions) client.Pipe {
	t.Helper()
	p, err := c.OpenPipe(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPipe(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	p := openPipe(ctx, t, c, client.PipeOptions{Timeout: time.Minute})
	if p.Send.Kind() != handles.Send || p.Receive.Kind() != handles.Receive || time.Until(p.Deadline) > time.Minute {
		t.Errorf("OpenPipe() = %v", p)
	}
	outcome, err := c.Reply(ctx, p.Send, client.Answer{
		Payload: []byte("1"), ContentType: "t", Headers: map[string]string{"h": "v"}, Handles: map[string]handle{"f": p.Receive},
	}, client.WithMore(), client.WithReplyID("a"))
	if err != nil || outcome.Status != client.ReplyBuffered || outcome.Sequence != 1 {
		t.Errorf("Reply() = %+v, %v", outcome, err)
	}
	again, err := c.Reply(ctx, p.Send, client.Answer{Payload: []byte("1")}, client.WithMore(), client.WithReplyID("a"))
	if err != nil || again != outcome {
		t.Errorf("same reply id: got %+v, %v; want %+v", again, err, outcome)
	}
	for r, err := range c.Receive(ctx, p.Receive, 0) {
		if err != nil || string(r.Payload) != "1" || r.ContentType != "t" || r.Headers["h"] != "v" || r.Handles["f"] != p.Receive {
			t.Errorf("Receive gave %+v, %v", r, err)
		}
		break // only detaches
	}
	if _, err := c.Reply(ctx, p.Send, client.Answer{Payload: []byte("2")}); err != nil {
		t.Fatal(err)
	}
	for range 3 { // many readers, each gets everything
		if got, err := replies(c.Receive(ctx, p.Receive, 0)); err != nil || !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("Receive() = %q, %v", got, err)
		}
	}
	if got, err := replies(c.Receive(ctx, p.Receive, 2)); err != nil || !slices.Equal(got, []string{"2"}) {
		t.Errorf("Receive(from 2) = %q, %v", got, err)
	}
	outcome, err = c.Reply(ctx, p.Send, client.Answer{})
	if err != nil || outcome.Status != client.ReplyEnded || outcome.Reason != client.EndOK {
		t.Errorf("Reply after the end = %+v, %v", outcome, err)
	}
	d, err := c.Describe(ctx, p.Receive)
	if err != nil || d.GetEnd() == nil {
		t.Errorf("Describe() = %v, %v", d, err)
	}
}

func TestPipeEnds(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	p := openPipe(ctx, t, c, client.PipeOptions{})
	if ended, _, err := c.Cancel(ctx, p.Receive, "enough"); err != nil || !ended {
		t.Errorf("Cancel() = %v, %v", ended, err)
	}
	if ended, reason, err := c.Cancel(ctx, p.Receive, ""); err != nil || ended || reason != client.ErrCancelled {
		t.Errorf("second Cancel() = %v, %v, %v", ended, reason, err)
	}
	if _, err := replies(c.Receive(ctx, p.Receive, 0)); !errors.Is(err, client.ErrCancelled) {
		t.Errorf("Receive() = %v", err)
	}
	if outcome, err := c.Reply(ctx, p.Send, client.Answer{}); err != nil || outcome.Reason != client.ErrCancelled {
		t.Errorf("Reply() = %+v, %v", outcome, err)
	}
	p = openPipe(ctx, t, c, client.PipeOptions{})
	if _, err := c.ReplyError(ctx, p.Send, errors.New("no luck")); err != nil {
		t.Error(err)
	}
	if _, err := client.NewFuture[string](c, p.Receive).Await(ctx); !errors.Is(err, client.ErrFailed) {
		t.Errorf("Await() = %v", err)
	}
	p = openPipe(ctx, t, c, client.PipeOptions{})
	if _, err := c.ReplyEnd(ctx, p.Send); err != nil {
		t.Error(err)
	}
	if _, err := client.NewFuture[string](c, p.Receive).Await(ctx); !errors.Is(err, client.ErrNoReply) {
		t.Errorf("Await() = %v, want NO_REPLY", err)
	}
	if _, err := c.Reply(ctx, p.Receive, client.Answer{}); !errors.Is(err, client.ReasonHandleKind) {
		t.Errorf("Reply through a receive handle: %v", err)
	}
	if _, err := c.Enqueue(ctx, "q", client.Message{Handles: map[string]handle{"x": forged(t, p.Send)}}); !errors.Is(err, client.ReasonHandleInvalid) {
		t.Errorf("forged handle: %v", err)
	}
}

// forged changes one bit of a handle's tag.
func forged(t *testing.T, h handle) handle {
	t.Helper()
	b, err := h.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	b[handles.Size-1] ^= 1
	h, err = handles.ParseBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestFuture(t *testing.T) {
	inBubble(t, func(t *testing.T, bed *testbed.Bed, c *client.Client) {
		p := openPipe(t.Context(), t, c, client.PipeOptions{})
		f := client.NewFuture[int](c, p.Receive)

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Await(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Await() = %v", err)
		}

		// It travels as JSON, and is awaited through another client.
		encoded, err := json.Marshal(map[string]any{"result": f})
		if err != nil {
			t.Fatal(err)
		}
		var document struct {
			Result client.Future[int] `json:"result"`
		}
		if err := json.Unmarshal(encoded, &document); err != nil {
			t.Fatal(err)
		}
		if _, err := document.Result.Await(t.Context()); err == nil {
			t.Error("Await without Bind gave no error")
		}
		elsewhere := document.Result.Bind(newClient(t, bed))

		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if v, err := f.Await(t.Context()); err != nil || v != 42 {
					t.Errorf("Await() = %d, %v", v, err)
				}
			})
		}
		wg.Go(func() {
			<-elsewhere.Done()
			if v, err := elsewhere.Await(t.Context()); err != nil || v != 42 {
				t.Errorf("Await() elsewhere = %d, %v", v, err)
			}
		})
		synctest.Wait()
		d, err := c.Describe(t.Context(), p.Receive)
		if err != nil || d.GetReaders() != 2 {
			t.Errorf("10 waiters of one future: got %d readers, %v; want 1, and 1 elsewhere", d.GetReaders(), err)
		}
		answer, err := client.NewAnswer(42)
		if err != nil {
			t.Fatal(err)
		}
		if outcome, err := c.Reply(t.Context(), p.Send, *answer); err != nil || outcome.Status != client.ReplyDelivered {
			t.Errorf("Reply() = %+v, %v", outcome, err)
		}
		wg.Wait()
		if v, err := client.NewFuture[int](c, p.Receive).Await(t.Context()); err != nil || v != 42 {
			t.Errorf("Await() afterwards = %d, %v", v, err)
		}
	})
}

// The value that comes when nobody waits any more is still there, and nobody is counted as a reader in between.
func TestFutureDetaches(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		p := openPipe(t.Context(), t, c, client.PipeOptions{})
		f := client.NewFuture[[]byte](c, p.Receive)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Await(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		synctest.Wait()
		if outcome, err := c.Reply(t.Context(), p.Send, client.Answer{Payload: []byte("late")}); err != nil || outcome.Status != client.ReplyBuffered {
			t.Errorf("Reply() = %+v, %v; want buffered", outcome, err)
		}
		if v, err := f.Await(t.Context()); err != nil || string(v) != "late" {
			t.Errorf("Await() = %q, %v", v, err)
		}
	})
}

func TestFutureOfCallAndProto(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	work(t, c, client.WorkConfig{}, client.Func(func(_ context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		return wrapperspb.String(in.GetValue() + "!"), nil
	}), "shout")
	m, err := client.NewMessage(wrapperspb.String("hey"))
	if err != nil {
		t.Fatal(err)
	}
	call := c.Call(ctx, "shout", m)
	f, err := call.Future()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := f.Await(ctx); err != nil || r.ContentType != client.ContentTypeProto {
		t.Errorf("Await() = %+v, %v", r, err)
	}
	v, err := client.NewFuture[*wrapperspb.StringValue](c, f.Handle()).Await(ctx)
	if err != nil || v.GetValue() != "hey!" {
		t.Errorf("Await() = %v, %v", v, err)
	}
}

func TestBatchAndAdmin(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	results, err := c.EnqueueBatch(ctx,
		client.Item{Queue: "a", Message: text("1")}, client.Item{Queue: "B A D"}, client.Item{Queue: "a", Message: text("2")})
	if err != nil || len(results) != 3 || results[0].Err != nil || results[2].Receipt.MessageID == "" ||
		!errors.Is(results[1].Err, client.ReasonQueueNameInvalid) {
		t.Errorf("EnqueueBatch() = %+v, %v", results, err)
	}
	info, err := c.ServerInfo(ctx)
	if err != nil || info.GetLimits().GetPayloadBytes() == 0 {
		t.Errorf("ServerInfo() = %v, %v", info, err)
	}
	queues, err := c.Queues(ctx, "")
	if err != nil {
		t.Errorf("Queues() = %v, %v", queues, err)
	}
	if _, err = c.Queue(ctx, "none-such"); err == nil {
		t.Error("Queue of an unknown name gave no error")
	}
	t.Log(err)
}

func TestIdempotencyKey(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	first := enqueue(ctx, t, c, "a", text("x"), client.WithIdempotencyKey("k"))
	second := enqueue(ctx, t, c, "a", text("x"), client.WithIdempotencyKey("k"))
	if first.MessageID != second.MessageID || !second.Duplicate {
		t.Errorf("same key: got %+v, then %+v", first, second)
	}
	if _, err := c.Enqueue(ctx, "a", text("y"), client.WithIdempotencyKey("k")); !errors.Is(err, client.ReasonIdempotencyKeyReused) {
		t.Errorf("same key, other payload: %v", err)
	}
}

func TestParentPipe(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	parent, err := c.OpenPipe(ctx, client.PipeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	call := c.Call(ctx, "a", text(""), client.WithPipe(client.PipeOptions{Parent: parent.Receive}))
	if _, err := call.Receipt(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Cancel(ctx, parent.Receive, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := call.One(); !errors.Is(err, client.ErrCancelled) {
		t.Errorf("call under a cancelled pipe: %v", err)
	}
}
