package faultload_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/replyq/replyq/internal/faultload"
	"github.com/replyq/replyq/internal/history"
	"github.com/replyq/replyq/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// On a server that does not fail the load finds nothing wrong, and does all that it says it does.
func TestLoad(t *testing.T) {
	bed := testbed.New(t)
	h := history.New()
	load, err := faultload.Start(faultload.Config{Addr: bed.Addr, History: h, Seed: 1, Name: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer load.Close()
	awaitSends(t, h, 2000)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := load.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	report := history.Check(h.Events(), history.Rules{Ordered: []string{faultload.Ordered}})
	t.Log(report)
	for _, p := range report.Problems() {
		t.Error(p)
	}
	if report.Redelivered == 0 || report.Unknown+report.Refused+report.Left > 0 {
		t.Error("want retries, and everything known and done")
	}
	derived := make(map[string]bool)
	for _, e := range h.Events() {
		for _, what := range []string{"forward", "future", "nested"} {
			if e.ID == (history.ID{Producer: "p0", Counter: e.ID.Counter}).Derived(what) {
				derived[what] = true
			}
		}
	}
	if len(derived) != 3 {
		t.Errorf("of what is derived there was only %v", derived)
	}
}

// awaitSends waits until so much was sent.
func awaitSends(t *testing.T, h *history.History, n int) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		sends := 0
		for _, e := range h.Events() {
			if e.What == history.Sent {
				sends++
			}
		}
		if sends >= n {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("only %d sends in 30 s", sends)
		}
	}
}
