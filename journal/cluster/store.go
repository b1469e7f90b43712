package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/replyq/replyq/journal"
)

// A Store is the logs of all shards of a service.
type Store struct {
	options Options
	conn    *nats.Conn
	js      jetstream.JetStream
	legacy  nats.JetStreamContext // only it can have messages pushed
	stream  jetstream.Stream
	bucket  jetstream.KeyValue
	number  uint32
	ctx     context.Context //nolint:containedctx // ends at Close
	cancel  context.CancelFunc
	packs   bool // batches may be compressed in the stream
	trimmer trimmer
	counts  counts
	created time.Time // when the stream was made
	choice  choice
	link    link

	mu       sync.Mutex
	journals map[int]*log // the newest of each shard that was taken
}

// A Fence says who has a shard.
type Fence struct {
	Epoch uint64 // 0: nobody ever had it
	Node  string
}

// Open connects to NATS and makes or checks what is kept there.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	if !validName.MatchString(o.Name) {
		return nil, fmt.Errorf("cluster: the name %q: use 1 to 64 of A-Z a-z 0-9 _ -", o.Name)
	}
	if len(o.Node) > maxNode {
		return nil, fmt.Errorf("cluster: the node's name has %d bytes: use at most %d", len(o.Node), maxNode)
	}
	opening, denied := context.WithCancelCause(ctx)
	defer denied(nil)
	s := &Store{options: o, journals: map[int]*log{}}
	conn, err := s.connect(opening, denied)
	if err != nil {
		if errors.Is(err, nats.ErrTLS) && o.Cert == "" {
			err = fmt.Errorf("%w: the server may require a client's certificate", err)
		}
		return nil, fmt.Errorf("cluster: connect to NATS at %s: %w", o.servers(), err)
	}
	s.conn = conn
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.open(opening); err != nil {
		s.cancel()
		conn.Close()
		return nil, fmt.Errorf("cluster: %w", err)
	}
	s.trimmer.start(s)
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.checkServer(); err != nil {
		return err
	}
	var err error
	if s.js, err = jetstream.New(s.conn, jetstream.WithDefaultTimeout(requestTimeout)); err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	if s.legacy, err = s.conn.JetStream(nats.MaxWait(tryTimeout)); err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	return s.openKept(ctx)
}

// openKept makes or checks what is kept. It waits for servers that are not ready yet, for as long as ctx lets it.
func (s *Store) openKept(ctx context.Context) error {
	return s.options.patiently(ctx, passing, func() error {
		if s.options.Fill {
			if err := s.startOver(ctx); err != nil {
				return err
			}
		}
		if err := s.openStream(ctx); err != nil {
			return err
		}
		if err := s.checkPermissions(ctx); err != nil {
			return err
		}
		return s.openBucket(ctx)
	})
}

// connect waits for servers that are not there yet, for as long as ctx lets it.
func (s *Store) connect(ctx context.Context, denied func(error)) (conn *nats.Conn, err error) {
	err = s.options.patiently(ctx, absent, func() error {
		conn, err = nats.Connect(s.options.URL, s.connection(denied)...)
		return err //nolint:wrapcheck // by the caller
	})
	return conn, err
}

// absent says that a server is not there, or not yet.
func absent(err error) bool {
	var refused tls.AlertError
	if errors.As(err, &refused) || errors.Is(err, nats.ErrTLS) {
		return false
	}
	var op *net.OpError
	var name *net.DNSError
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, io.EOF) ||
		errors.As(err, &op) || errors.As(err, &name)
}

// patiently does something again and again, while its errors are ones that pass and ctx lets it.
func (o Options) patiently(ctx context.Context, passing func(error) bool, f func() error) error {
	told := time.Time{}
	for try := 0; ; try++ {
		err := f()
		if err == nil || !passing(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		}
		if time.Since(told) > openTold {
			told = time.Now()
			o.Log.Info("waiting for NATS", "error", err)
		}
		pause(ctx, try)
	}
}

// passing says that an error of JetStream may pass by itself.
func passing(err error) bool {
	var api *jetstream.APIError
	var old *nats.APIError // of the older interface
	switch {
	case errors.As(err, &old):
		return old.Code == unavailable
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return false
	case errors.As(err, &api):
		return api.Code == unavailable || api.ErrorCode == errCodeNoPeers || errors.Is(err, jetstream.ErrStreamNotFound) // just being made
	}
	for _, one := range []error{
		nats.ErrNoResponders, context.DeadlineExceeded, context.Canceled, nats.ErrTimeout, nats.ErrDisconnected, nats.ErrReconnectBufExceeded,
		jetstream.ErrNoStreamResponse, nats.ErrNoStreamResponse,
	} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// Number is drawn when the stream is made.
func (s *Store) Number() uint32 { return s.number }

// Shards returns how many shards there are.
func (s *Store) Shards() int { return s.options.Shards }

// Conn is the connection to NATS.
func (s *Store) Conn() *nats.Conn { return s.conn }

// Bucket is where replicas tell of themselves.
func (s *Store) Bucket() jetstream.KeyValue { return s.bucket }

// Close ends all journals and the connection.
func (s *Store) Close() error {
	s.cancel()
	s.mu.Lock()
	journals := make([]*log, 0, len(s.journals))
	for _, l := range s.journals {
		journals = append(journals, l)
	}
	s.mu.Unlock()
	for _, l := range journals {
		_ = l.Close() // never fails
	}
	s.trimmer.wait()
	s.conn.Close()
	return nil
}

// Take makes this node the owner of a shard. The journal's Read yields all that was kept before it. If another node was
// quicker, the error is [journal.ErrDeposed].
func (s *Store) Take(ctx context.Context, shard int) (journal.Journal, error) {
	return s.take(ctx, shard, nil)
}

func (s *Store) take(ctx context.Context, shard int, f *Follower) (journal.Journal, error) {
	if shard < 0 || shard >= s.options.Shards {
		return nil, fmt.Errorf("cluster: there is no shard %d of %d", shard, s.options.Shards)
	}
	l := newLog(s, shard, f)
	if err := l.take(ctx); err != nil {
		l.cancel(err)
		l.close()
		return nil, fmt.Errorf("cluster: take shard %d: %w", shard, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		l.cancel(journal.ErrClosed)
		return nil, journal.ErrClosed
	}
	s.journals[shard] = l
	return l, nil
}

// A tail is the last message of a shard; sequence 0: there is none.
type tail struct {
	header
	sequence uint64
}

// tail is what a shard's log ends with, as the stream's leader knows it.
func (s *Store) tail(ctx context.Context, shard int) (tail, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := LastMessage(ctx, s.conn, s.streamName(), s.subject(shard))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return tail{}, nil
	}
	if err != nil {
		return tail{}, fmt.Errorf("cluster: read the end of shard %d: %w", shard, err)
	}
	h, _, err := decode(shard, m.Data)
	if err != nil {
		return tail{}, fmt.Errorf("cluster: shard %d, sequence %d: %w", shard, m.Sequence, err)
	}
	return tail{h, m.Sequence}, nil
}

// pause waits between two tries.
func pause(ctx context.Context, try int) {
	t := time.NewTimer(min(leastPause<<min(try, 10), mostPause))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
