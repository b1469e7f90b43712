package integration_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/faultload"
	"github.com/replyq/replyq/internal/history"
)

// A trial is a load and the history of it.
type trial struct {
	test    *testing.T
	history *history.History
	load    *faultload.Load
}

// startTrial starts a load.
func startTrial(t *testing.T, config faultload.Config) trial {
	t.Helper()
	config.History = history.New()
	load, err := faultload.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(load.Close)
	return trial{t, config.History, load}
}

// finish ends the load and checks its history.
func (n *trial) finish(rules history.Rules) *history.Report {
	n.test.Helper()
	report := n.end(rules)
	for _, p := range report.Problems() {
		n.test.Error(p)
	}
	if n.test.Failed() {
		n.keep()
		n.test.FailNow()
	}
	return report
}

// end ends the load and returns what its history shows.
func (n *trial) end(rules history.Rules) *history.Report {
	n.test.Helper()
	ctx, stop := context.WithTimeoutCause(n.test.Context(), time.Minute, errors.New("a minute is over"))
	defer stop()
	if err := n.load.Finish(ctx); err != nil {
		n.test.Errorf("the load does not come to its end: %v", err)
	}
	report := history.Check(n.history.Events(), rules)
	n.test.Log(report)
	return report
}

// keep keeps the history of a test that has failed, if go test is told -artifacts.
func (n *trial) keep() {
	f, err := os.Create(filepath.Join(n.test.ArtifactDir(), "history.jsonl"))
	if err != nil {
		n.test.Error(err)
		return
	}
	if err := n.history.Write(f); err != nil {
		n.test.Error(err)
	}
	if err := f.Close(); err != nil {
		n.test.Error(err)
	}
}
