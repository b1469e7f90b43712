package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/badinput"
)

// A keyFile is a file of handle keys that is rotated under a running server.
type keyFile struct {
	t       *testing.T
	path    string
	lines   []string // by id: the key, with its state apart
	server  *target
	reloads int
}

func newKeyFile(t *testing.T) *keyFile {
	t.Helper()
	k := &keyFile{t: t, path: filepath.Join(t.TempDir(), "handle-keys")}
	k.add()
	k.write(map[int]string{0: "mint"})
	return k
}

// add makes a key, and returns its id.
func (k *keyFile) add() int {
	k.t.Helper()
	id := len(k.lines)
	code, line := runServerCommand(k.t, "new-key", "--id", fmt.Sprint(id), "--state", "mint")
	if code != 0 {
		k.t.Fatal(line)
	}
	k.lines = append(k.lines, line)
	return id
}

// write replaces the file, as whoever rotates keys should, with the keys that have a state.
func (k *keyFile) write(states map[int]string) {
	k.t.Helper()
	var file strings.Builder
	for id, line := range k.lines {
		if state, ok := states[id]; ok {
			fmt.Fprintln(&file, strings.Replace(line, " mint ", " "+state+" ", 1))
		}
	}
	if err := os.WriteFile(k.path+".new", []byte(file.String()), 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Rename(k.path+".new", k.path); err != nil {
		k.t.Fatal(err)
	}
}

// load writes the file and lets the server read it.
func (k *keyFile) load(states map[int]string) {
	k.t.Helper()
	k.write(states)
	k.server.signal(k.t, syscall.SIGHUP)
	k.reloads++
	eventually(k.t, "the keys are read again", func() bool {
		return strings.Count(k.server.log.String(), "keys read again") == k.reloads
	})
}

// A traveller keeps pipes for a while, and then uses all that their handles are good for.
type traveller struct {
	stub  queuepb.QueueServiceClient
	pipes []*queuepb.OpenPipeResponse
	turns atomic.Int64
}

// aboard is how many pipes a traveller keeps: so old are the handles that it uses, in turns.
const aboard = 30

// turn opens a pipe, and ends the oldest.
func (v *traveller) turn(ctx context.Context) error {
	pipe, err := v.stub.OpenPipe(ctx, &queuepb.OpenPipeRequest{})
	if err != nil {
		return err
	}
	v.pipes = append(v.pipes, pipe)
	v.turns.Add(1)
	if len(v.pipes) <= aboard {
		return nil
	}
	oldest := v.pipes[0]
	v.pipes = v.pipes[1:]
	if _, err := v.stub.Enqueue(ctx, &queuepb.EnqueueRequest{Queue: "luggage", Message: &queuepb.Message{
		ReplyTo: oldest.SendHandle, Handles: map[string]*queuepb.Handle{"future": oldest.ReceiveHandle},
	}}); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	if res, err := v.stub.Describe(ctx, &queuepb.DescribeRequest{Handle: oldest.ReceiveHandle}); err != nil || res.End != nil {
		return fmt.Errorf("describe: %v, %w", res, err)
	}
	reply, err := v.stub.Reply(ctx, &queuepb.ReplyRequest{Handle: oldest.SendHandle, Body: &queuepb.ReplyRequest_Payload{}})
	if err != nil || reply.Result.Outcome != queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED {
		return fmt.Errorf("reply: %v, %w", reply, err)
	}
	reader, err := v.stub.Receive(ctx, &queuepb.ReceiveRequest{Handle: oldest.ReceiveHandle})
	if err != nil {
		return err
	}
	for {
		res, err := reader.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if end := res.GetEnd(); end != nil {
			if end.Reason != queuepb.EndReason_END_REASON_OK {
				return fmt.Errorf("receive: %v", end)
			}
			return nil
		}
	}
}

// Keys rotate while work goes on: nobody whose handles are of a key that is still in the file notices anything.
func TestP17KeyRotation(t *testing.T) {
	t.Parallel()
	const rotations = 10
	keys := newKeyFile(t)
	s := &target{server: startServer(t, "--key-file", keys.path), ctx: t.Context()}
	keys.server = s
	ctx, stop := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	failed := make(chan error, 10)
	travellers := make([]*traveller, 4)
	for i := range travellers {
		v := &traveller{stub: s.stub(t)}
		travellers[i] = v
		traffic.Go(func() {
			for ctx.Err() == nil {
				if err := v.turn(ctx); err != nil && ctx.Err() == nil {
					failed <- err
					return
				}
			}
		})
	}
	var calls atomic.Int64
	c := s.client(t)
	traffic.Go(func() { // leases
		err := c.Work(ctx, client.WorkConfig{Concurrency: 2}, func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
			return client.NewAnswer(string(d.Payload))
		}, "work")
		if err != nil && !errors.Is(err, context.Canceled) {
			failed <- err
		}
	})
	traffic.Go(func() {
		for ctx.Err() == nil {
			reply, err := c.Call(ctx, "work", client.Message{Payload: []byte("x")}).One()
			if ctx.Err() == nil && (err != nil || string(reply.Payload) != "x") {
				failed <- fmt.Errorf("call: %v, %w", reply, err)
				return
			}
			calls.Add(1)
		}
	})
	// through waits until what everybody had aboard has been used, and what came after it too.
	through := func() {
		t.Helper()
		before := make([]int64, len(travellers))
		for i, v := range travellers {
			before[i] = v.turns.Load()
		}
		eventually(t, "everybody has been through", func() bool {
			select {
			case err := <-failed:
				t.Fatalf("somebody has noticed: %v", err)
			default:
			}
			for i, v := range travellers {
				if v.turns.Load() < before[i]+aboard+2 {
					return false
				}
			}
			return true
		})
	}
	through()
	old := 0
	for range rotations {
		next := keys.add()
		keys.load(map[int]string{old: "mint", next: "accept"})
		keys.load(map[int]string{old: "accept", next: "mint"})
		through()
		keys.load(map[int]string{next: "mint"})
		old = next
		through()
	}
	stop()
	traffic.Wait()
	t.Logf("%d rotations, %d calls", rotations, calls.Load())
	if calls.Load() < rotations {
		t.Errorf("%d calls in %d rotations: the test tests little", calls.Load(), rotations)
	}
}

// The handles of a key that is dropped are dead at once, and so are those of one that is gone; others are not.
func TestP17DroppedKey(t *testing.T) {
	t.Parallel()
	keys := newKeyFile(t)
	s := &target{server: startServer(t, "--key-file", keys.path), ctx: t.Context()}
	keys.server = s
	s.conn = s.dial(t)
	stub := queuepb.NewQueueServiceClient(s.conn)
	old, err := stub.OpenPipe(s.ctx, &queuepb.OpenPipeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := keys.add()
	keys.load(map[int]string{0: "accept", next: "mint"})
	fresh, err := stub.OpenPipe(s.ctx, &queuepb.OpenPipeRequest{})
	if err != nil {
		t.Fatal(err)
	}

	use := func(pipe *queuepb.OpenPipeResponse, want badinput.Refusal, outcome queuepb.ReplyOutcome) {
		t.Helper()
		want.Field = ""
		check := func(what string, got badinput.Refusal) {
			t.Helper()
			if got.Field = ""; got != want {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		check("Describe", s.plain(s.ctx, t, queuepb.QueueService_Describe_FullMethodName, &queuepb.DescribeRequest{Handle: pipe.ReceiveHandle}))
		check("Receive", s.plain(s.ctx, t, queuepb.QueueService_Receive_FullMethodName, &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle}))
		check("Enqueue", s.plain(s.ctx, t, queuepb.QueueService_Enqueue_FullMethodName, &queuepb.EnqueueRequest{
			Queue: "q", Message: &queuepb.Message{ReplyTo: pipe.SendHandle},
		}))
		if outcome == queuepb.ReplyOutcome_REPLY_OUTCOME_UNSPECIFIED {
			check("Reply", s.plain(s.ctx, t, queuepb.QueueService_Reply_FullMethodName, &queuepb.ReplyRequest{Handle: pipe.SendHandle}))
			return
		}
		res, err := stub.Reply(s.ctx, &queuepb.ReplyRequest{Handle: pipe.SendHandle, More: true, Body: &queuepb.ReplyRequest_Payload{}})
		if err != nil || res.Result.Outcome != outcome {
			t.Errorf("Reply: %v, %v, want %v", res, err, outcome)
		}
	}
	use(old, badinput.Refusal{}, queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED)
	keys.load(map[int]string{0: "dropped", next: "mint"})
	use(old, badinput.Refusal{Code: codes.FailedPrecondition, Reason: "HANDLE_REVOKED"}, queuepb.ReplyOutcome_REPLY_OUTCOME_ENDED)
	use(fresh, badinput.Refusal{}, queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED)
	keys.load(map[int]string{next: "mint"})
	use(old, badinput.Refusal{Code: codes.InvalidArgument, Reason: "HANDLE_INVALID"}, queuepb.ReplyOutcome_REPLY_OUTCOME_UNSPECIFIED)
	use(fresh, badinput.Refusal{}, queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED)
}
