package cluster_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
)

// An along reads a shard's log along.
type along struct {
	follower *cluster.Follower
	got      []string
	next     journal.Position
}

func follow(s *cluster.Store, shard int) *along {
	return &along{follower: s.Follow(shard)}
}

func (a *along) read(t testing.TB) error {
	t.Helper()
	for r, err := range a.follower.Read(t.Context()) {
		if err != nil {
			return err
		}
		a.got, a.next = append(a.got, string(r.Batch)), r.Position+1
	}
	return nil
}

// want reads, and compares all that was read so far.
func (a *along) want(t testing.TB, want ...string) {
	t.Helper()
	if err := a.read(t); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, a.got); diff != "" {
		t.Errorf("what was read along (-want +got):\n%s", diff)
	}
}

// take takes the shard over, and returns all that it has.
func (a *along) take(t testing.TB, s *cluster.Store, shard int) (journal.Journal, []string) {
	t.Helper()
	j, err := s.TakeFollowed(t.Context(), shard, a.follower)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Clone(a.got)
	for r, err := range j.Read(t.Context(), a.next) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(r.Batch))
	}
	return j, all
}

// Who follows reads each batch once, and as the next owner only what is left.
func TestFollow(t *testing.T) {
	t.Parallel()
	large := string(noise(3 << 20)) // several messages
	o := service(t, cluster.Options{URL: shared(t).URL(), Shards: 2})
	owner, other := open(t, o), open(t, o)
	a := follow(other, 1)
	a.want(t) // nobody has the shard yet
	j := take(t, owner, 1)
	write(t, take(t, owner, 0), "another shard's")
	a.want(t)
	write(t, j, "one", large)
	a.want(t, "one", large)
	a.want(t, "one", large)
	write(t, j, "two")
	if err := j.Trim(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	j = take(t, owner, 1) // the owner itself, anew
	write(t, j, "three")
	a.want(t, "one", large, "two", "three")
	write(t, j, "four", large)
	next, all := a.take(t, other, 1)
	if diff := cmp.Diff([]string{"one", large, "two", "three", "four", large}, all); diff != "" {
		t.Errorf("what the next owner has (-want +got):\n%s", diff)
	}
	if _, err := j.Append(t.Context(), []byte("late")); !errors.Is(err, journal.ErrDeposed) {
		t.Errorf("an append of the former owner: %v, want ErrDeposed", err)
	}
	write(t, next, "five")
	if err := next.Trim(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	wantContent(t, next, "four", large, "five")
	wantContent(t, take(t, open(t, o), 1), "four", large, "five")
}

// Nothing was read before the shard is taken over.
func TestFollowNothing(t *testing.T) {
	t.Parallel()
	o := service(t, cluster.Options{URL: shared(t).URL(), Shards: 1})
	write(t, take(t, open(t, o), 0), "one", "two")
	s := open(t, o)
	_, all := follow(s, 0).take(t, s, 0)
	if diff := cmp.Diff([]string{"one", "two"}, all); diff != "" {
		t.Errorf("what the next owner has (-want +got):\n%s", diff)
	}
}

// What is trimmed before it was read is missed, not passed over.
func TestFollowTooLate(t *testing.T) {
	t.Parallel()
	c := shared(t)
	o := service(t, cluster.Options{URL: c.URL(), Shards: 1})
	s := open(t, o)
	j := take(t, s, 0)
	write(t, j, "one", "two")
	reads, takes := follow(s, 0), follow(s, 0)
	reads.want(t, "one", "two")
	takes.want(t, "one", "two")
	write(t, j, "three", "four", "five")
	if err := j.Trim(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	stream, err := jetStream(t, c).Stream(t.Context(), "REPLYQ_"+o.Name)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is trimmed", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.FirstSeq > 4
	})
	if err := reads.read(t); !errors.Is(err, cluster.ErrNotFollowed) {
		t.Errorf("reading on: %v, want ErrNotFollowed", err)
	}
	other := open(t, o)
	next, err := other.TakeFollowed(t.Context(), 0, takes.follower)
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	for _, err := range next.Read(t.Context(), takes.next) {
		failed = err
	}
	if !errors.Is(failed, cluster.ErrNotFollowed) {
		t.Errorf("reading as the next owner: %v, want ErrNotFollowed", failed)
	}
	wantContent(t, next, "five")
}
