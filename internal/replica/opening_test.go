package replica_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal"
)

// TestOpeningIsAbandoned: an owner that is still reading its journals ends that when there is no more use in it, and another
// one serves.
func TestOpeningIsAbandoned(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(t *testing.T, n *node){
		"it leaves": func(t *testing.T, n *node) { n.Leave(t.Context()) },
		"it is deposed": func(t *testing.T, n *node) {
			claim := `{"format": 1, "node": "x", "boot": "x", "address": "x:1", "state": "serving"}`
			if _, err := n.store.Bucket().Put(t.Context(), "owner", []byte(claim)); err != nil {
				t.Fatal(err)
			}
		},
		"it is closed": func(t *testing.T, n *node) {
			if err := n.Replica.Close(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := natstest.Start(t, natstest.Options{}).URL()
			keys := newKeys(t, handles.GenerateKeyLine(0, "mint", time.Now()))
			reads, ended := make(chan struct{}, 1), make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel() // whatever happens, the reading ends
			slow, err := joinWith(t, url, "slow", keys, func(journals []journal.Journal) error {
				err := readOn(ctx, journals[0], reads)
				select {
				case ended <- err:
				default: // it has taken over again
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			await(t, "the reading begins", reads)
			other := mustJoin(t, url, "other", keys)
			other.until(t, "the other one sees the owner", func() bool { return other.relays("slow:1") })
			test(t, slow)
			if err := await(t, "the reading ends", ended); !errors.Is(err, journal.ErrClosed) {
				t.Errorf("the reading ended with %v, want ErrClosed", err)
			}
			if name != "it is deposed" { // by nobody who serves
				other.until(t, "the other one serves", func() bool { return other.owns() != nil })
			}
			cancel()
		})
	}
}

// readOn reads a journal as often as it can.
func readOn(ctx context.Context, j journal.Journal, reads chan<- struct{}) error {
	for {
		for _, err := range j.Read(ctx, 0) {
			if err != nil {
				return err
			}
		}
		select {
		case reads <- struct{}{}:
		default:
		}
	}
}

// await waits for a value.
func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	select {
	case v := <-c:
		return v
	case <-limit.C:
		t.Fatalf("not within a minute: %s", what)
		panic("unreachable")
	}
}
