package replica

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// errCutShort says that a list of replicas has not come whole.
var errCutShort = errors.New("the list was cut short")

// Members lists the replicas that have told of themselves and not left, by name. Those that were silent for long are
// forgotten.
func (r *Replica) Members(ctx context.Context) ([]Member, error) {
	members, err := r.bucket.members(ctx)
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	var newest time.Time
	for _, m := range members {
		if m.Seen.After(newest) {
			newest = m.Seen
		}
	}
	silence := r.election.silence()
	for i := range members {
		m := &members[i]
		m.This = m.Node == r.cfg.Node
		m.Silent = newest.Sub(m.Seen) + silence
		m.Alive = m.This || m.Silent < silentTime
		if m.This {
			m.Silent = silence
		}
		m.For += m.Silent
	}
	members = slices.DeleteFunc(members, func(m Member) bool {
		gone := !m.This && m.Silent > goneTime
		if gone {
			r.bucket.drop(ctx, m)
		}
		return gone
	})
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	r.roster.keep(members)
	return members, nil
}

func (b bucket) members(ctx context.Context) ([]Member, error) {
	keys, err := b.memberKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the replicas: %w", err)
	}
	var members []Member
	for _, key := range keys {
		m, err := b.member(ctx, key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, errFormat):
			continue // it has left meanwhile, or is of another version
		case err != nil:
			return nil, fmt.Errorf("list the replicas: %w", err)
		}
		members = append(members, m)
	}
	return members, nil
}

// memberKeys returns all of them or an error. [jetstream.KeyValue.ListKeysFiltered] would also return some of them, without a
// word: when ctx or the connection ends meanwhile.
func (b bucket) memberKeys(ctx context.Context) ([]string, error) {
	watcher, err := b.kv.Watch(ctx, memberKey+">", jetstream.IgnoreDeletes(), jetstream.MetaOnly())
	if err != nil {
		return nil, fmt.Errorf("watch the keys: %w", err)
	}
	defer func() { _ = watcher.Stop() }() // only its memory is at stake
	var keys []string
	for {
		select {
		case entry, ok := <-watcher.Updates():
			if !ok {
				return nil, errCutShort
			}
			if entry == nil { // these were all
				return keys, nil
			}
			keys = append(keys, entry.Key())
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errCutShort, context.Cause(ctx))
		}
	}
}

func (b bucket) member(ctx context.Context, key string) (Member, error) {
	e, err := b.kv.Get(ctx, key)
	if err != nil {
		return Member{}, fmt.Errorf("read the key %q: %w", key, err)
	}
	var t told
	if err := json.Unmarshal(e.Value(), &t); err != nil || t.Format != claimFormat {
		return Member{}, fmt.Errorf("the key %q: %w", key, errFormat)
	}
	return t.member(e), nil
}
