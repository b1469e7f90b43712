//go:build linux

package integration_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/history"
)

// Disks that are full, hang or fail.

// How a server ends whose disk has failed, and one whose store is damaged.
const (
	exitDisk    = 5
	exitDamaged = 6
)

// ballast is the file that takes the room away.
const ballast = "ballast"

// fill leaves so much free in the image of a running server.
func (i *image) fill(s *server, leave int64) {
	i.t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(i.path(s, ""), &fs); err != nil {
		i.t.Fatal(err)
	}
	f, err := os.Create(i.path(s, ballast))
	if err != nil {
		i.t.Fatal(err)
	}
	size := int64(fs.Bavail)*fs.Bsize - leave
	err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	for leave == 0 && (err == nil || !errors.Is(err, syscall.ENOSPC)) { // the last block, too
		size += fs.Bsize
		if err = syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil && !errors.Is(err, syscall.ENOSPC) {
			i.t.Fatal(err)
		}
	}
	if err != nil && leave > 0 {
		i.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		i.t.Fatal(err)
	}
}

// health asks whether a server serves. It is UNKNOWN if there is no answer.
func (s *server) health(t *testing.T) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	res, _ := healthpb.NewHealthClient(s.watcher(t)).Check(ctx, &healthpb.HealthCheckRequest{}) // no answer is one, too
	return res.GetStatus()
}

func (s *server) awaitHealth(t *testing.T, want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	began := time.Now()
	eventually(t, "health is "+want.String(), func() bool { return s.health(t) == want })
	t.Logf("after %v health is %v", time.Since(began).Round(time.Millisecond), want)
}

// anyOrder are the rules where requests were refused and repeated, some before others.
func anyOrder() history.Rules { return history.Rules{} }

// When a disk is nearly full nothing more is taken, and what there is can be worked on; when there is room again all goes
// on, without a restart.
func TestP24DiskNearlyFull(t *testing.T) {
	t.Parallel()
	i := newImage(t, imageSize)
	r := newRigOf(t, i.server, []string{"--data-dir", i.store()})
	n := r.begin()
	n.pass(500 * time.Millisecond)
	i.fill(r.server, 64<<20)
	r.awaitHealth(t, healthpb.HealthCheckResponse_NOT_SERVING)
	eventually(t, "an Enqueue fails with an error that says that it was not done", func() bool {
		impatient, leave := context.WithTimeout(t.Context(), 5*time.Second)
		defer leave()
		_, err := r.client(t).Enqueue(impatient, "late", client.Message{Payload: []byte(canary)})
		if err == nil {
			t.Fatal("a disk that is nearly full has taken a message")
		}
		e := (*client.Error)(nil)
		return errors.As(err, &e) && e.Outcome == client.OutcomeNotApplied
	})
	if err := os.Remove(i.path(r.server, ballast)); err != nil {
		t.Fatal(err)
	}
	r.awaitHealth(t, healthpb.HealthCheckResponse_SERVING)
	n.pass(500 * time.Millisecond)
	n.finish(anyOrder())
}

// A disk without any room, at once: the server takes nothing more, or ends with its own exit code; and all that it has
// confirmed is there when there is room again.
func TestP24DiskFull(t *testing.T) {
	t.Parallel()
	i := newImage(t, imageSize)
	r := newRigOf(t, i.server, []string{"--data-dir", i.store()})
	n := r.begin()
	n.pass(500 * time.Millisecond)
	r.troubled = true
	i.fill(r.server, 0)
	eventually(t, "the server ends or does not serve", func() bool {
		return r.over() || r.health(t) == healthpb.HealthCheckResponse_NOT_SERVING
	})
	n.pass(500 * time.Millisecond)
	if r.over() {
		t.Logf("it has ended")
		n.checkFailedDisk()
	}
	n.crash(func() {
		r.kill()
		tool(t, "unshare", i.inside("rm", "-f", i.dir+"/"+ballast).Args[1:]...)
	})
	n.pass(500 * time.Millisecond)
	n.finish(anyOrder())
}

// checkFailedDisk: the server has ended because of the disk, and said so.
func (n *round) checkFailedDisk() {
	n.t.Helper()
	if code := n.wait(n.t, patience); code != exitDisk {
		n.t.Errorf("exit code %d, want %d", code, exitDisk)
	}
	if !strings.Contains(n.log.String(), `"level":"ERROR"`) {
		n.t.Error("the log says nothing of an error")
	}
}

// abort has the file system fail, as it does when the kernel finds its disk broken. The server stands still meanwhile: ext4
// may tell who is in the midst of an fsync at the moment of a forced abort that all went well.
func (i *image) abort(s *server) {
	i.t.Helper()
	s.signal(i.t, syscall.SIGSTOP)
	eventually(i.t, "all threads of the server have stopped", func() bool { return stopped(i.t, s.cmd.Process.Pid) })
	tool(i.t, "nsenter", "--mount", "--target", strconv.Itoa(s.cmd.Process.Pid), "mount", "-o", "remount,abort", i.dir)
	s.signal(i.t, syscall.SIGCONT)
}

// A disk that fails ends the server, with its own exit code; on a disk that is well again all is there.
func TestP24DiskFails(t *testing.T) {
	t.Parallel()
	i := newImage(t, imageSize)
	r := newRigOf(t, i.server, []string{"--data-dir", i.store()})
	n := r.begin()
	for range scaled(t, 1) {
		n.pass(500 * time.Millisecond)
		r.troubled = true
		n.crash(func() {
			i.abort(r.server)
			n.checkFailedDisk()
			tool(t, "sh", "-c", `e2fsck -fy "$1" >/dev/null; test $? -le 1`, "sh", i.file)
		})
		n.pass(500 * time.Millisecond)
	}
	n.finish(strict())
}

// A disk that hangs for five seconds: nothing is confirmed that is not kept, nobody waits for it without an end, and
// afterwards all goes on.
func TestP24DiskHangs(t *testing.T) {
	t.Parallel()
	const hang = 5 * time.Second
	i := newImage(t, imageSize)
	r := newRigOf(t, i.server, []string{"--data-dir", i.store()})
	stub := r.stub(t)
	for range scaled(t, 1) {
		n := r.begin()
		n.pass(500 * time.Millisecond)
		i.freeze(r.server)
		thawed := false
		t.Cleanup(func() {
			if !thawed { // or the file system is never let go of
				i.thaw(r.server)
			}
		})
		<-time.After(200 * time.Millisecond) // what was kept before is told
		confirmed := n.count(history.Accepted)
		thaw := time.After(hang)
		began := time.Now()
		err := enqueuePlainly(t.Context(), stub, "hanging")
		took := time.Since(began)
		t.Logf("after %v an enqueue was told %v", took.Round(time.Millisecond), err)
		if err == nil || status.Code(err) != codes.Unavailable {
			t.Errorf("Enqueue() on a disk that hangs = %v, want UNAVAILABLE", err)
		}
		if took > hang-time.Second {
			t.Errorf("it took %v to be told", took)
		}
		<-thaw
		if more := n.count(history.Accepted) - confirmed; more > 0 {
			t.Errorf("%d sends were confirmed while the disk hung", more)
		}
		i.thaw(r.server)
		thawed = true
		r.awaitHealth(t, healthpb.HealthCheckResponse_SERVING)
		eventually(t, "enqueueing goes on", func() bool { return enqueuePlainly(t.Context(), stub, "hanging") == nil })
		n.pass(500 * time.Millisecond)
		if _, err := r.client(t).PurgeQueue(t.Context(), "hanging", 0); err != nil {
			t.Error(err)
		}
		n.finish(anyOrder())
	}
}

// enqueuePlainly enqueues with the generated stub, which repeats nothing.
func enqueuePlainly(ctx context.Context, stub queuepb.QueueServiceClient, queue string) error {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	_, err := stub.Enqueue(ctx, &queuepb.EnqueueRequest{Queue: queue, Message: &queuepb.Message{Payload: []byte(canary)}})
	return err
}

// count is how often a history has an event.
func (n *round) count(what string) (times int) {
	for _, e := range n.history.Events() {
		if e.What == what {
			times++
		}
	}
	return times
}
