package replica

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// TestListThatWasCutShort: a list of which a part came before the call or the connection ended is not taken for the whole: that
// could mean that there is nobody to hand over to.
func TestListThatWasCutShort(t *testing.T) {
	for name, end := range map[string]func(context.CancelFunc, chan jetstream.KeyValueEntry){
		"by the call":       func(cancel context.CancelFunc, _ chan jetstream.KeyValueEntry) { cancel() },
		"by the connection": func(_ context.CancelFunc, updates chan jetstream.KeyValueEntry) { close(updates) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l := list{updates: make(chan jetstream.KeyValueEntry)}
			go func() {
				l.updates <- memberEntry{}
				end(cancel, l.updates)
			}()
			members, err := bucket{kv: l}.members(ctx)
			if !errors.Is(err, errCutShort) || members != nil {
				t.Errorf("members() = %v, %v, want none and errCutShort", members, err)
			}
		})
	}
}

// A list is a bucket that can be watched, and what comes then.
type list struct {
	jetstream.KeyValue
	jetstream.KeyWatcher
	updates chan jetstream.KeyValueEntry
}

func (l list) Watch(context.Context, string, ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return l, nil
}

func (l list) Updates() <-chan jetstream.KeyValueEntry { return l.updates }
func (l list) Stop() error                             { return nil }

type memberEntry struct{ jetstream.KeyValueEntry }

func (memberEntry) Key() string { return memberKey + "a" }
