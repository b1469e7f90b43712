package integration_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// TestBackupOfALiveServer: a copy that was taken under load has all that was confirmed before it was begun, is sound, and
// serves; the handles of before work there. The server notices nothing.
func TestBackupOfALiveServer(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := startDurable(t, dir)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	stub := s.stub(t)
	pipe := newPipe(ctx, t, stub)
	sendThrough(ctx, t, stub, pipe, "first", true)
	c := s.client(t)
	enqueuing, enough := context.WithCancel(ctx)
	defer enough()
	var all sync.WaitGroup
	var confirmed atomic.Uint64
	some := make(chan struct{})
	for p := range 8 {
		all.Go(func() {
			for i := 0; ; i++ {
				_, err := c.Enqueue(enqueuing, "q", client.Message{Payload: fmt.Append(nil, canary, p, "-", i)})
				if errors.Is(err, context.Canceled) {
					return
				}
				if err != nil {
					t.Errorf("Enqueue() = %v", err)
					return
				}
				if confirmed.Add(1) == 200 {
					close(some)
				}
			}
		})
	}
	<-some
	copies := make([]string, 3)
	least := make([]uint64, len(copies))
	for i := range copies {
		copies[i], least[i] = filepath.Join(t.TempDir(), "copy"), confirmed.Load()
		if code, output := runServerCommand(t, "backup", "--data-dir", dir, copies[i]); code != 0 || output != copies[i] {
			t.Fatalf("backup = %d, %q", code, output)
		}
	}
	enough()
	all.Wait()
	for i, to := range copies {
		if code, output := runServerCommand(t, "check", to); code != 0 {
			t.Errorf("check of copy %d = %d, %q", i, code, output)
		}
		restored := startDurable(t, to)
		q := restored.statistics(t, "q")
		if q.Ready < least[i] || q.Ready > confirmed.Load()+8 {
			t.Errorf("copy %d has %d messages, of which %d were confirmed before, and %d in all", i, q.Ready, least[i], confirmed.Load())
		}
		stub := restored.stub(t)
		if _, err := stub.Reply(ctx, &queuepb.ReplyRequest{
			Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Payload{Payload: []byte("last")},
		}); err != nil {
			t.Errorf("reply through a handle of before = %v", err)
		}
		if got := received(ctx, t, stub, pipe, 1); got != "first, last, OK" {
			t.Errorf("the pipe gave %q in copy %d", got, i)
		}
		restored.kill()
	}
	if q := s.statistics(t, "q"); q.Ready < confirmed.Load() {
		t.Errorf("the server has %d messages, %d were confirmed", q.Ready, confirmed.Load())
	}
}
