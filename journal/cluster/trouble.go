package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// goneTries is how often one after the other a stream has to be missing until that is believed, over some 3 s: servers that
// have just started do not know all streams yet.
const goneTries = 8

// Codes of the JetStream API that its Go package has no name for.
const (
	errCodeNoPeers     = 10005 // not enough servers for the replicas, or they do not know each other yet
	errCodeResources   = 10023 // the server has no room
	errCodeStorage     = 10047 // the account has no room
	errCodeTooLarge    = 10054 // larger than the stream's max_msg_size
	errCodeStoreFailed = 10077 // the stream is full
	errCodeSealed      = 10109
)

// hint says what to do about a message that is not kept.
func hint(err error) string {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Sprintf("set the max_payload of all NATS servers to %d or more", leastPayload)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return "the stream has no leader: start NATS servers until most of its replicas run"
	case !errors.As(err, &api):
		return "the NATS servers cannot be reached, or do not answer: look at them and at the network"
	}
	switch api.ErrorCode {
	case errCodeStoreFailed:
		return "the stream is full: raise its max_bytes or max_msgs"
	case errCodeStorage:
		return "the account's storage is full: raise its limit"
	case errCodeResources:
		return "the storage of JetStream is full: make room, or raise max_file_store"
	case errCodeTooLarge:
		return fmt.Sprintf("raise the stream's max_msg_size to %d or more", leastPayload)
	}
	return ""
}

// gone says so if the stream is not there any more, or takes nothing for ever, which a message's error may come from.
func (s *Store) gone(ctx context.Context, cause error) error {
	var api *jetstream.APIError
	if !errors.Is(cause, jetstream.ErrNoStreamResponse) && (!errors.As(cause, &api) || api.ErrorCode != errCodeSealed && !wrongSequence(cause)) {
		return nil
	}
	info, err := s.info(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("the stream %s was deleted", s.streamName())
	case err != nil:
		return nil
	case !info.Created.Equal(s.created):
		return fmt.Errorf("the stream %s was deleted, and made again", s.streamName())
	case info.Config.Sealed:
		return fmt.Errorf("the stream %s was sealed", s.streamName())
	}
	return nil
}

// unsent says that a message has not left this process.
func unsent(err error) bool {
	return errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrConnectionClosed)
}

// info asks the servers for the stream's.
func (s *Store) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.streamName())
	if err != nil {
		return nil, fmt.Errorf("cluster: ask for the stream %s: %w", s.streamName(), err)
	}
	return stream.CachedInfo(), nil
}
