package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Keys of the stream's metadata.
const (
	metaFormat = "replyq.format"
	metaNumber = "replyq.store"
	metaShards = "replyq.shards"
)

// Values of metaFormat. A stream says what its readers have to understand: in one that was made before batches were compressed,
// they are not.
const (
	plainStream  = "1"
	packedStream = "2"
)

func (s *Store) streamName() string { return "REPLYQ_" + s.options.Name }

func (s *Store) subjects() string { return "replyq." + s.options.Name + ".log.*" }

func (s *Store) subject(shard int) string {
	return "replyq." + s.options.Name + ".log." + strconv.Itoa(shard)
}

// checkServer refuses servers that cannot keep the promise.
func (s *Store) checkServer() error {
	version := s.conn.ConnectedServerVersion()
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || major < 2 || major == 2 && minor < 11 {
		return fmt.Errorf("the NATS server is of version %s: use 2.11 or newer", version)
	}
	if most := s.conn.MaxPayload(); most < leastPayload {
		return fmt.Errorf("the NATS server takes messages of at most %d bytes: set its max_payload to %d or more", most, leastPayload)
	}
	return nil
}

func (s *Store) config() jetstream.StreamConfig {
	number := s.options.Number
	for number == 0 {
		number = uint32(random() >> 32) //nolint:gosec // half of it
	}
	c := jetstream.StreamConfig{
		Name:        s.streamName(),
		Description: "log of replyq",
		Subjects:    []string{s.subjects()},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew, // a full stream refuses; it never drops what was kept
		Storage:     jetstream.FileStorage,
		Replicas:    s.options.Replicas,
		MaxMsgs:     -1,
		MaxBytes:    -1,
		MaxMsgSize:  -1,
		Metadata: map[string]string{
			metaFormat: packedStream,
			metaNumber: strconv.FormatUint(uint64(number), 10),
			metaShards: strconv.Itoa(cmp.Or(s.options.Shards, defaultShards)),
		},
	}
	if s.options.Fill {
		c.Metadata[metaFilling] = "yes"
	}
	return c
}

// openStream makes the stream unless it is there, and checks it.
func (s *Store) openStream(ctx context.Context) error {
	stream, err := s.js.Stream(ctx, s.streamName())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.js.CreateStream(ctx, s.config())
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another replica was quicker
			stream, err = s.js.Stream(ctx, s.streamName())
		}
	}
	if err != nil {
		return fmt.Errorf("stream %s with %d replicas: %w", s.streamName(), s.options.Replicas, err)
	}
	s.stream, s.created = stream, stream.CachedInfo().Created
	if err := s.checkFilling(stream.CachedInfo().Config); err != nil {
		return err
	}
	return s.checkStream(stream.CachedInfo().Config)
}

// checkStream refuses a stream that cannot keep the promise, or is of another service.
func (s *Store) checkStream(has jetstream.StreamConfig) error {
	number, err := strconv.ParseUint(has.Metadata[metaNumber], 10, 32)
	if err != nil {
		return fmt.Errorf("the stream %s was not made by replyq: use another name", has.Name)
	}
	s.number = uint32(number)
	if s.options.Number != 0 && s.options.Number != s.number {
		return fmt.Errorf("the stream %s is of store %d, not %d: use another name", has.Name, s.number, s.options.Number)
	}
	if shards, err := strconv.ParseUint(has.Metadata[metaShards], 10, 16); err == nil && s.options.Shards == 0 {
		s.options.Shards = int(shards)
	}
	want := s.config()
	if s.packs = has.Metadata[metaFormat] != plainStream; !s.packs {
		want.Metadata[metaFormat] = plainStream
	}
	for _, c := range []struct {
		what      string
		has, want any
	}{
		{"format", has.Metadata[metaFormat], want.Metadata[metaFormat]},
		{"number of shards", has.Metadata[metaShards], want.Metadata[metaShards]},
		{"subjects", fmt.Sprint(has.Subjects), fmt.Sprint(want.Subjects)},
		{"retention", has.Retention, want.Retention},
		{"discard policy", has.Discard, want.Discard},
		{"storage", has.Storage, want.Storage},
		{"replicas", has.Replicas, want.Replicas},
		{"persist mode", has.PersistMode, want.PersistMode},
		{"limit of messages", has.MaxMsgs, want.MaxMsgs},
		{"limit of messages per subject", max(has.MaxMsgsPerSubject, -1), int64(-1)},
		{"limit of age", has.MaxAge, want.MaxAge},
		{"direct reads", has.AllowDirect, want.AllowDirect},
		{"denial of purging", has.DenyPurge, false},
		{"mirror", has.Mirror != nil, false},
		{"acknowledgements off", has.NoAck, false},
		{"sealed", has.Sealed, false},
	} {
		if c.has != c.want && !(c.what == "limit of messages per subject" && has.MaxMsgsPerSubject <= 0) {
			return fmt.Errorf("the stream %s has %s %v, but this replica is set to %v", has.Name, c.what, c.has, c.want)
		}
	}
	if most := has.MaxMsgSize; most > 0 && most < leastPayload {
		return fmt.Errorf("the stream %s takes messages of at most %d bytes: allow %d or more", has.Name, most, leastPayload)
	}
	return nil
}

// checkPermissions does what later is done to the stream, in ways that change nothing. What is not permitted reaches the
// connection's error handler, which ends ctx.
func (s *Store) checkPermissions(ctx context.Context) error {
	_, err := s.js.Publish(ctx, s.subject(0), nil, jetstream.WithExpectStream("-")) // never kept, since it is for another stream
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("publish to %s: %w", s.subject(0), err)
	}
	if err := s.stream.Purge(ctx, jetstream.WithPurgeSubject(s.subject(0)+"-")); err != nil { // nobody's subject
		return fmt.Errorf("purge the stream %s: %w", s.streamName(), err)
	}
	messages, err := s.legacy.SubscribeSync(s.subject(0), nats.OrderedConsumer(), nats.BindStream(s.streamName()), nats.DeliverNew(), nats.Context(ctx))
	if err != nil {
		return fmt.Errorf("read the stream %s: %w", s.streamName(), err)
	}
	return messages.Unsubscribe() //nolint:wrapcheck // by the caller
}

// openBucket makes the key-value bucket unless it is there.
func (s *Store) openBucket(ctx context.Context) error {
	name := s.streamName() + "_nodes"
	bucket, err := s.js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		bucket, err = s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: name, Description: "replicas of replyq", Replicas: s.options.Replicas, Storage: jetstream.FileStorage,
		})
	}
	if err == nil { // it was made by somebody else just now, or its servers are being started: nobody may answer for it yet
		if _, err = bucket.Get(ctx, "owner"); errors.Is(err, jetstream.ErrKeyNotFound) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", name, err)
	}
	s.bucket = bucket
	return nil
}
