package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/replyq/replyq/journal/cluster"
)

// A claim says who is the owner of all shards.
type claim struct {
	Format  int    `json:"format"`
	Node    string `json:"node"` // empty: the last owner gave way
	Boot    string `json:"boot"` // of its process
	Address string `json:"address"`
	State   state  `json:"state"`
	Beat    uint64 `json:"beat"` // makes it differ
	Keys    keys   `json:"keys"` // stay when the owner gives way
	// Heir is the node that the owner is about to give way to, and for a while the only one that may take over from it.
	Heir string `json:"heir,omitempty"`

	deleted bool // somebody has taken it out of the bucket; its owner may still have a lease
}

// claimFormat is the format of claims and of what replicas tell of themselves.
const claimFormat = 1

// A state is what a replica does.
type state string

const (
	relaying  state = "relaying"
	restoring state = "restoring" // it has the claim, and reads the journals
	serving   state = "serving"
	leaving   state = "leaving"
)

// keys tell the keys that sign handles apart, and do not give them away.
type keys struct {
	Mint   string   `json:"mint"`   // what new handles are signed with
	Accept []string `json:"accept"` // what handles are taken that are signed with
}

// errConflict says that somebody else has replaced the claim.
var errConflict = errors.New("the claim was replaced")

// errFormat says that the claim was written by a version that is too different.
var errFormat = errors.New("it is not this version's: do not run replicas of different versions so far apart")

// A register keeps the claim: a value that is replaced by who knows its revision, which grows. A read may be old.
type register interface {
	// read returns revision 0 if there is no claim. That of one that was deleted is the deletion's, unless no trace is left.
	read(ctx context.Context) (claim, uint64, error)
	// write fails with errConflict when the revision is another one. After another error it is not known what has happened.
	write(ctx context.Context, c claim, revision uint64) (uint64, error)
	// tell makes known what a replica does. It needs as much of the cluster as write does.
	tell(ctx context.Context, m Member) error
}

// A Member is what a replica tells of itself.
type Member struct {
	Node, Address, Version string
	State                  string        // relaying, restoring, serving or leaving
	For                    time.Duration // how long it has been in it
	Seen                   time.Time     // when it was last heard of, by the cluster's clock
	Silent                 time.Duration // since then
	Alive                  bool          // that is not long
	This                   bool          // it is the replica that was asked; always alive

	revision uint64 // of what it told
	ready    string // the boot of the owner whose logs it has read along
}

// A bucket is the register in NATS.
type bucket struct {
	kv   jetstream.KeyValue
	conn *nats.Conn
}

const (
	claimKey  = "owner"
	memberKey = "node." // and the name
)

// stream has the keys as subjects.
func (b bucket) stream() string { return "KV_" + b.kv.Bucket() }

func (b bucket) subject(key string) string { return "$KV." + b.kv.Bucket() + "." + key }

// read asks who knows best. The key-value interface asks any server that has a copy, and does not tell the revision of a
// deletion, which whoever replaces it has to know.
func (b bucket) read(ctx context.Context) (c claim, revision uint64, _ error) {
	m, err := cluster.LastMessage(ctx, b.conn, b.stream(), b.subject(claimKey))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return c, 0, nil
	case err != nil:
		return c, 0, fmt.Errorf("read who is the owner: %w", err)
	case m.Header.Get(operationHeader) != "": // a deletion
		return claim{deleted: true}, m.Sequence, nil
	}
	if err := json.Unmarshal(m.Data, &c); err != nil || c.Format != claimFormat {
		return claim{}, 0, fmt.Errorf("the key %q of the bucket %s: %w", claimKey, b.kv.Bucket(), errFormat)
	}
	return c, m.Sequence, nil
}

// operationHeader is what deletions of keys have.
const operationHeader = "KV-Operation"

func (b bucket) write(ctx context.Context, c claim, revision uint64) (uint64, error) {
	c.Format = claimFormat
	value, err := json.Marshal(c)
	if err != nil {
		return 0, fmt.Errorf("encode the claim: %w", err) // unreachable
	}
	next, err := b.kv.Update(ctx, claimKey, value, revision)
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return 0, errConflict
	}
	if err != nil {
		return 0, fmt.Errorf("write who is the owner: %w", err)
	}
	return next, nil
}

// told is a member as it is kept.
type told struct {
	Format  int    `json:"format"`
	Node    string `json:"node"`
	Address string `json:"address"`
	Version string `json:"version"`
	State   string `json:"state"`
	For     int64  `json:"for_ms"`
	Ready   string `json:"ready,omitempty"`
}

func (t *told) member(e jetstream.KeyValueEntry) Member {
	return Member{
		Node: t.Node, Address: t.Address, Version: t.Version, State: t.State, For: time.Duration(t.For) * time.Millisecond,
		Seen: e.Created(), revision: e.Revision(), ready: t.Ready,
	}
}

func (b bucket) tell(ctx context.Context, m Member) error { return b.tellOver(ctx, b.conn, m) }

// tellOver is tell over another connection than the bucket's.
func (b bucket) tellOver(ctx context.Context, conn *nats.Conn, m Member) error {
	value, err := json.Marshal(told{claimFormat, m.Node, m.Address, m.Version, m.State, m.For.Milliseconds(), m.ready})
	if err != nil {
		return fmt.Errorf("encode: %w", err) // unreachable
	}
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.Publish(ctx, b.subject(memberKey+m.Node), value)
	}
	if err != nil {
		return fmt.Errorf("tell of this replica: %w", err)
	}
	return nil
}

// drop forgets a replica, unless it has told of itself meanwhile. Who asks next tries again if that fails.
func (b bucket) drop(ctx context.Context, m Member) {
	_ = b.kv.Purge(ctx, memberKey+m.Node, jetstream.LastRevision(m.revision))
}

// forget removes what was told of a replica that has left.
func (b bucket) forget(ctx context.Context, node string) error {
	if err := b.kv.Purge(ctx, memberKey+node); err != nil {
		return fmt.Errorf("forget %s: %w", strconv.Quote(node), err)
	}
	return nil
}
