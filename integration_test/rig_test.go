package integration_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/faultload"
	"github.com/replyq/replyq/internal/freeport"
	"github.com/replyq/replyq/internal/history"
)

// Servers with a journal on disk, to which the worst happens again and again. In CI there are a few cycles of each kind;
// with REPLYQ_SOAK, as in `make soak-faults`, so many times as many. -fault.seed repeats the choices of a run, though not
// what the machine made of them.

var faultSeed = flag.Uint64("fault.seed", 0, "seed of what the tests with faults choose; 0: another one each time")

// A rig is a server with a journal on disk, at one address over all its starts.
type rig struct {
	t      *testing.T
	addr   string
	random *rand.Rand
	// command makes the command that starts the server with so many flags.
	command func(flags ...string) *exec.Cmd
	flags   []string

	*server
	rounds  int
	slowest time.Duration // of the starts, until it served
}

// newRig makes a rig on a new data directory, and starts the server.
func newRig(t *testing.T, flags ...string) *rig {
	t.Helper()
	return newRigOf(t, localServer, append(flags, "--data-dir", dataDir(t), "--allow-tmpfs"))
}

// localServer is a server in the test's own world of files.
func localServer(flags ...string) *exec.Cmd { return exec.Command(queueServer, flags...) }

func newRigOf(t *testing.T, command func(flags ...string) *exec.Cmd, flags []string) *rig {
	t.Helper()
	r := &rig{t: t, addr: freeport.For(t), command: command, flags: append(flags, "--log-level", "info"), random: faultRandom(t)}
	r.start()
	return r
}

// faultRandom is what a test chooses by. A test that fails tells the seed.
func faultRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again: -run '^%s$' -fault.seed %d", t.Name(), seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// start starts the server and waits until it serves.
func (r *rig) start() {
	r.t.Helper()
	began := time.Now()
	r.launch()
	r.awaitServing(r.t)
	r.slowest = max(r.slowest, time.Since(began))
}

// launch only starts it.
func (r *rig) launch() {
	r.t.Helper()
	r.server = launchServer(r.t, r.command(serverFlags(r.addr, r.flags...)...))
}

// dataDir names a directory for a journal.
func dataDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "store")
}

// A round is a load on a rig.
type round struct {
	*rig
	trial
}

// begin starts a load on the server.
func (r *rig) begin() *round { return r.beginWith(faultload.Config{}) }

func (r *rig) beginWith(config faultload.Config) *round {
	r.t.Helper()
	r.rounds++
	config.Addr, config.Seed, config.Name = r.addr, r.random.Uint64(), fmt.Sprintf("r%d.", r.rounds)
	return &round{r, startTrial(r.t, config)}
}

// pass lets the load go on for a while: between 100 ms and the most given.
func (r *rig) pass(most time.Duration) { pass(r.random, most) }

func pass(random *rand.Rand, most time.Duration) {
	<-time.After(100*time.Millisecond + time.Duration(random.Int64N(int64(most-100*time.Millisecond))))
}

// crash has the server crash as given, and starts it again.
func (n *round) crash(crash func()) {
	n.t.Helper()
	n.history.Note(history.Event{What: history.Crashed})
	crash()
	<-time.After(settling)
	n.history.Note(history.Event{What: history.Back}) // before it can say anything
	n.start()
}

// settling is how long clients have to read, and note, what a server has said that is gone.
const settling = 100 * time.Millisecond

// strict are the rules where nothing may be lost.
func strict() history.Rules { return history.Rules{Ordered: []string{faultload.Ordered}} }

// lazy are the rules where so much of what was confirmed last may be lost, and half a second more.
func lazy(interval time.Duration) history.Rules {
	return history.Rules{Ordered: []string{faultload.Ordered}, Lossy: interval + 500*time.Millisecond}
}

// quick is a client that comes back quickly.
func (r *rig) quick() *client.Client {
	r.t.Helper()
	return r.client(r.t, client.WithBackoff(client.Backoff{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}))
}
