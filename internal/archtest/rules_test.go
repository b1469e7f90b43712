package archtest

// module is this repository's path; every import that begins with it is ours.
const module = "github.com/replyq/replyq"

// An importRule says which of our packages the package in one directory may import. Directories
// are relative to the repository's root; "x/*" stands for every package below x.
type importRule struct {
	// code is what any file may import.
	code []string
	// tests is what its test files may import besides code and the package itself.
	tests []string
}

// importRules has a row for each package of the main module. What is not in a row is forbidden, and
// so is a package without a row.
var importRules = map[string]importRule{
	"api/queuepb": {},
	"handles":     {},

	"journal":             {tests: []string{"journal/journaltest"}},
	"journal/journaltest": {code: []string{"journal"}},
	// A new store gets a key ring, which is kept beside what it has signed.
	"journal/disk":    {code: []string{"handles", "internal/histogram", "journal"}, tests: []string{"journal/journaltest"}},
	"journal/cluster": {code: []string{"internal/histogram", "journal"}, tests: []string{"internal/faultnet", "internal/natstest", "journal/journaltest"}},

	// The broker's own suite runs over every journal.
	"broker":        {code: []string{"broker/factpb", "handles", "internal/optable", "journal"}, tests: []string{"internal/journalflag", "journal/*"}},
	"broker/factpb": {},
	// Only what a client of the broker sees.
	"broker/modeltest": {tests: []string{"broker", "handles", "internal/journalflag", "journal"}},
	// For tests only.
	"internal/relayflag": {},
	// For tests only.
	"internal/journalflag": {code: []string{"broker", "internal/natstest", "journal", "journal/*"}},

	// Errors are walked both ways, from the broker to the client and back, in one table test.
	"server": {
		code:  []string{"api/queuepb", "broker", "handles", "internal/buffers", "internal/optable", "internal/wire"},
		tests: []string{"client", "internal/badinput", "internal/journalflag", "internal/testbed", "journal", "journal/*"},
	},
	"client": {
		code:  []string{"api/queuepb", "handles", "internal/buffers", "internal/optable", "internal/wire"},
		tests: []string{"broker", "internal/journalflag", "internal/testbed", "journal", "server"},
	},
	"admin": {
		code:  []string{"broker"},
		tests: []string{"handles", "internal/testbed"},
	},

	// Only here is everything known: flags, wiring, signals. The client is for relaying.
	"cmd/queue-server": {
		code:  []string{"admin", "api/queuepb", "broker", "client", "handles", "internal/replica", "journal", "journal/*", "server"},
		tests: []string{"internal/freeport", "internal/natstest", "internal/testbed"},
	},
	"cmd/queuectl": {
		code:  []string{"api/queuepb", "client", "handles"},
		tests: []string{"internal/testbed"},
	},

	"demo": {code: []string{"api/queuepb", "client", "internal/testbed"}},
	// It mints handles that a server which has the same keys must refuse.
	"integration_test": {
		tests: []string{"api/queuepb", "client", "handles", "internal/badinput", "internal/faultload", "internal/faultnet", "internal/freeport", "internal/history", "internal/natstest", "internal/testbed"},
	},

	// Which of several replicas serves.
	"internal/replica": {
		code:  []string{"broker", "handles", "journal", "journal/cluster"},
		tests: []string{"internal/faultnet", "internal/natstest"},
	},

	"internal/archtest": {},
	"internal/badinput": {code: []string{"api/queuepb", "handles"}},
	"internal/faultnet": {},
	"internal/freeport": {},
	"internal/natstest": {code: []string{"internal/faultnet", "internal/freeport"}},
	"internal/faultload": {
		code:  []string{"api/queuepb", "client", "handles", "internal/history"},
		tests: []string{"internal/testbed"},
	},
	"internal/history":   {code: []string{"client"}},
	"internal/buffers":   {},
	"internal/histogram": {},
	"internal/optable":   {},
	"internal/mutants":   {},
	"internal/wire":      {},
	// Only tests: the whole system in fake time.
	"internal/simulation": {
		tests: []string{"api/queuepb", "broker", "client", "handles", "internal/faultnet", "internal/history", "internal/testbed", "server"},
	},
	"internal/testbed": {
		code:  []string{"broker", "client", "handles", "internal/relayflag", "server"},
		tests: []string{"api/queuepb"},
	},
}

// A dependencyRule keeps packages of others in their place.
type dependencyRule struct {
	name string
	// paths are import paths; each stands for itself and everything below it.
	paths []string
	// in lists the directories that may import them, as in importRule. Generated files may always.
	in []string
	// notTests frees test files from the rule.
	notTests bool
}

var dependencyRules = []dependencyRule{
	{
		name: "gRPC",
		paths: []string{
			"google.golang.org/grpc",
			"google.golang.org/genproto/googleapis/rpc",
			"github.com/grpc-ecosystem",
		},
		in: []string{
			"server", "client", "cmd/*", "internal/badinput", "internal/buffers", "internal/simulation", "internal/testbed", "demo", "integration_test",
		},
	},
	{
		name:  "NATS",
		paths: []string{"github.com/nats-io"},
		in:    []string{"journal/cluster", "internal/natstest", "internal/replica", "cmd/queue-server"},
	},
	{
		name:  "Pebble",
		paths: []string{"github.com/cockroachdb/pebble"},
		in:    []string{"journal/disk"},
	},
	{
		name:     "command lines",
		paths:    []string{"flag", "github.com/alecthomas/kong"},
		in:       []string{"cmd/*", "demo", "internal/journalflag", "internal/relayflag"},
		notTests: true,
	},
}

// shellFiles are the files of package broker that surround the shards: they own goroutines, locks,
// timers and keys. Every other file of the package, a new one too, belongs to the state machine:
// it is told what time it is, and the same facts always give the same state.
var shellFiles = map[string]bool{
	"budget.go":  true, // what all shards may keep in memory together
	"broker.go":  true, // opens, closes, finds the shard of a queue
	"edge.go":    true, // what counts over all the parts of a Consume over several shards
	"keeper.go":  true, // facts to the journal, and what waits for them
	"gather.go":  true, // who shares an append
	"vouch.go":   true, // what is said only by who is sure to own the journal
	"owner.go":   true, // what happens when another owner takes over
	"lagging.go": true, // rounds without traffic
	"replay.go":  true, // several shards at a time
	"stall.go":   true, // what happens when the journal does not keep up
	"runner.go":  true, // one caller at a time, timer, hand-over of events, what goes from shard to shard
	"session.go": true, // a client's side: events that wait for it
}

// shardMayNot says what a file of the state machine may not use.
var shardMayNot = struct {
	imports []string
	clock   []string // functions of package time
}{
	imports: []string{
		"crypto/rand", "hash/maphash", "math/rand", "math/rand/v2", // chance
		"sync", "sync/atomic", // someone else at the same time
		"net", "os", "syscall", // the outside
	},
	clock: []string{
		"Now", "Since", "Until",
		"After", "AfterFunc", "NewTicker", "NewTimer", "Sleep", "Tick",
	},
}

// vagueNames are package names that say nothing about what is inside.
var vagueNames = []string{"base", "common", "helpers", "misc", "models", "shared", "types", "util", "utils"}
