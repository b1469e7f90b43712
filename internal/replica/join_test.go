package replica

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
)

// A young register does not answer at first.
type young struct {
	register
	errs []error
}

func (y *young) read(context.Context) (claim, uint64, error) {
	if len(y.errs) > 0 {
		err := y.errs[0]
		y.errs = y.errs[1:]
		return claim{}, 0, err
	}
	return claim{Node: "a"}, 1, nil
}

// A replica that joins waits for the cluster, but not for one that it will never understand.
func TestFirst(t *testing.T) {
	none := errors.New("no responders")
	synctest.Test(t, func(t *testing.T) {
		c, err := first(t.Context(), &young{errs: []error{none, none, none}}, defaultTimes, slog.New(slog.DiscardHandler))
		if err != nil || c.Node != "a" {
			t.Errorf("first() = %+v, %v, want the claim of a", c, err)
		}
		_, err = first(t.Context(), &young{errs: []error{none, errFormat}}, defaultTimes, slog.New(slog.DiscardHandler))
		if !errors.Is(err, errFormat) {
			t.Errorf("first() = %v, want %v", err, errFormat)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err = first(ctx, &young{errs: []error{none}}, defaultTimes, slog.New(slog.DiscardHandler)); !errors.Is(err, none) {
			t.Errorf("first() = %v when the wait is over, want %v", err, none)
		}
	})
}
