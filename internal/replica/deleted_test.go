package replica_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/natstest"
)

// TestDeletedClaim: when somebody takes the claim out of the bucket, its owner makes it again and serves on; without an owner
// another replica makes it, whether it has seen the claim or not.
func TestDeletedClaim(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(ctx context.Context, n *node) error{
		"deleted": func(ctx context.Context, n *node) error { return n.store.Bucket().Delete(ctx, "owner") },
		"purged":  func(ctx context.Context, n *node) error { return n.store.Bucket().Purge(ctx, "owner") },
		"without a trace": func(ctx context.Context, n *node) error {
			s, err := bucketStream(ctx, n)
			if err != nil {
				return err
			}
			return s.Purge(ctx, jetstream.WithPurgeSubject("$KV."+n.store.Bucket().Bucket()+".owner"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := natstest.Start(t, natstest.Options{}).URL()
			keys := newKeys(t, handles.GenerateKeyLine(0, "mint", time.Now()))
			a := mustJoin(t, url, "a", keys)
			a.until(t, "a serves", func() bool { return a.owns() != nil })
			b := mustJoin(t, url, "b", keys)
			b.until(t, "b relays to a", func() bool { return b.relays("a:1") })
			serves := a.owns()
			if got := ownerAfter(t, b, remove); got != "a" {
				t.Errorf("the claim is made again by %q, want its owner", got)
			}
			if a.owns() != serves {
				t.Error("the owner does not serve on")
			}

			a.store.Conn().Close() // it makes nothing again
			if got := ownerAfter(t, b, remove); got != "b" {
				t.Errorf("the claim is made again by %q, want the replica that is left", got)
			}
			b.until(t, "b serves", func() bool { return b.owns() != nil })

			b.store.Conn().Close()
			c := mustJoin(t, url, "c", keys)
			c.until(t, "c serves", func() bool { return c.owns() != nil })
			if err := c.Replica.Close(); err != nil {
				t.Fatal(err)
			}
			if err := remove(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			d := mustJoin(t, url, "d", keys)
			d.until(t, "d, which has never seen a claim, serves", func() bool { return d.owns() != nil })
		})
	}
}

func bucketStream(ctx context.Context, n *node) (jetstream.Stream, error) {
	js, err := jetstream.New(n.store.Conn())
	if err != nil {
		return nil, err
	}
	return js.Stream(ctx, "KV_"+n.store.Bucket().Bucket())
}

// ownerAfter removes the claim, and tells who has the next one.
func ownerAfter(t *testing.T, n *node, remove func(context.Context, *node) error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watch, err := n.store.Bucket().Watch(ctx, "owner", jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Stop() }() // ends with the connection at the latest
	if err := remove(ctx, n); err != nil {
		t.Fatal(err)
	}
	s, err := bucketStream(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	for e := range watch.Updates() {
		if e == nil || e.Operation() != jetstream.KeyValuePut || e.Revision() <= s.CachedInfo().State.LastSeq {
			continue
		}
		var claim struct{ Node string }
		if err := json.Unmarshal(e.Value(), &claim); err != nil {
			t.Fatal(err)
		}
		return claim.Node
	}
	t.Fatal("nobody makes the claim again within a minute")
	return ""
}
