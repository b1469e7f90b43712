package integration_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/faultnet"
	"github.com/replyq/replyq/internal/freeport"
	"github.com/replyq/replyq/internal/natstest"
)

// replicas is how many servers a service has, and how many NATS servers.
const replicas = 3

const (
	// logStream is the stream in NATS that has the logs of a service.
	logStream = "REPLYQ_main"
	// claimStream is the one that has who serves.
	claimStream = "KV_REPLYQ_main_nodes"
)

// A service is three replicas of queue-server over three NATS servers that fsync each message, all in processes of their
// own.
type service struct {
	t        *testing.T
	random   *rand.Rand
	nats     *natstest.Cluster
	replicas []*replica
}

// A replica is one of the servers of a service, at one address over all its starts.
type replica struct {
	*server
	t      *testing.T
	name   string
	binary string // of queue-server
	flags  []string
	addr   string
	// With partitions, all that it sends to NATS goes through proxies, and all that the others relay to it.
	toNATS []*faultnet.Proxy
	peers  *faultnet.Proxy
}

// startService starts a service and waits until it serves.
func startService(t *testing.T, partitions bool) *service {
	t.Helper()
	return startServiceOf(t, queueServer, partitions)
}

// startServiceOf is startService with replicas of another build.
func startServiceOf(t *testing.T, binary string, partitions bool) *service {
	t.Helper()
	s := &service{t: t, random: faultRandom(t), nats: natstest.Start(t, natstest.Options{Nodes: replicas, Sync: true, Partitions: partitions})}
	keys := filepath.Join(t.TempDir(), "keys")
	if code, key := runServerCommand(t, "new-key"); code == 0 {
		keys = writeFile(t, "keys", key)
	}
	for i := range replicas {
		r := &replica{t: t, name: fmt.Sprintf("r%d", i), binary: binary, addr: freeport.For(t)}
		urls := s.nats.URL()
		r.flags = []string{"--log-level", "info", "--key-file", keys, "--node", r.name, "--drain-timeout", "10s"}
		if partitions {
			urls = r.interpose(s.nats)
		}
		r.flags = append(r.flags, "--nats-url", urls)
		s.replicas = append(s.replicas, r)
	}
	for _, r := range s.replicas {
		r.launch()
	}
	for _, r := range s.replicas {
		r.awaitServing(t)
	}
	s.awaitOwner()
	return s
}

// interpose puts proxies around a replica, and returns the addresses of NATS for it.
func (r *replica) interpose(nats *natstest.Cluster) (urls string) {
	r.t.Helper()
	listen := func(target string) *faultnet.Proxy {
		p, err := faultnet.Listen(target)
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(p.Close)
		return p
	}
	r.peers = listen(r.addr)
	r.flags = append(r.flags, "--peer-address", r.peers.Addr())
	var all []string
	for i := range nats.Nodes() {
		p := listen(nats.Node(i).Address())
		r.toNATS = append(r.toNATS, p)
		all = append(all, "nats://"+p.Addr())
	}
	return strings.Join(all, ",")
}

// launch starts the replica and does not wait.
func (r *replica) launch() {
	r.t.Helper()
	r.server = launchServer(r.t, exec.Command(r.binary, serverFlags(r.addr, r.flags...)...))
	r.troubled = true
}

// start starts it again and waits until it is there.
func (r *replica) start() {
	r.t.Helper()
	r.launch()
	r.awaitServing(r.t)
}

// terminate stops it in order.
func (r *replica) terminate() {
	r.t.Helper()
	r.signal(r.t, syscall.SIGTERM)
	if code := r.wait(r.t, patience); code != 0 {
		r.t.Errorf("exit code %d", code)
	}
}

// served is when the replica began to serve last; zero if it does not.
func (r *replica) served() (since time.Time) {
	if r.over() {
		return since
	}
	for line := range strings.Lines(r.log.String()) {
		var entry struct {
			Time time.Time
			Msg  string
		}
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		switch entry.Msg {
		case "this replica serves":
			since = entry.Time
		case "this replica serves no more", "another replica serves", "gave way":
			since = time.Time{}
		}
	}
	return since
}

// owner is the replica that serves; -1 if there is none, so far as the logs say.
func (s *service) owner() int {
	owner, newest := -1, time.Time{}
	for i, r := range s.replicas {
		if since := r.served(); since.After(newest) {
			owner, newest = i, since
		}
	}
	return owner
}

// awaitOwner waits until some replica serves, other than those given.
func (s *service) awaitOwner(not ...int) (owner int) {
	s.t.Helper()
	eventually(s.t, "a replica serves", func() bool {
		owner = s.owner()
		for _, n := range not {
			if owner == n {
				return false
			}
		}
		return owner >= 0
	})
	return owner
}

// awaitLeader waits until a NATS server other than this one leads a stream.
func (s *service) awaitLeader(stream string, not int) {
	s.t.Helper()
	eventually(s.t, "another NATS server leads "+stream, func() bool { return s.nats.Leader(stream) != not })
}

// awaitNATS waits until all NATS servers have all of the service: until then the loss of another one may be one too many.
func (s *service) awaitNATS() {
	s.t.Helper()
	s.nats.AwaitCurrent(logStream)
	s.nats.AwaitCurrent(claimStream)
}

// relay is a replica that does not serve.
func (s *service) relay() int { return (s.awaitOwner() + 1 + s.random.IntN(replicas-1)) % replicas }

// stop stops all replicas in order: none may be left, or be unwell.
func (s *service) stop() {
	s.t.Helper()
	for _, r := range s.replicas {
		r.terminate()
	}
}

// connect makes a client that is at a replica, and at the others if that one is not there: as with a name that has several
// addresses.
func (s *service) connect(at int) (*client.Client, error) {
	var addresses []resolver.Address
	for i := range s.replicas {
		addresses = append(addresses, resolver.Address{Addr: s.replicas[(at+i)%replicas].addr})
	}
	names := manual.NewBuilderWithScheme("replicas")
	names.InitialState(resolver.State{Addresses: addresses})
	return client.New("replicas:///all", client.WithDialOptions(grpc.WithResolvers(names)),
		client.WithBackoff(client.Backoff{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}))
}
