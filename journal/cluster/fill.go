package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// Filling a service with what another store has. While it is filled, its stream's metadata says so, and only who fills it
// can open it: nobody serves a half of what there was.

// metaFilling is a key of the stream's metadata; it has a value while the service is filled.
const metaFilling = "replyq.filling"

// Errors of [Open], for errors.Is.
var (
	// ErrFilling says that the service is being filled with [Options.Fill], and that this was not finished.
	ErrFilling = errors.New("the service is being filled")
	// ErrFilled says that [Store.Filled] was called before.
	ErrFilled = errors.New("the service was filled before")
)

// startOver takes away what was begun with Fill and not finished. A service that is in use stays, and is an error.
func (s *Store) startOver(ctx context.Context) error {
	stream, err := s.js.Stream(ctx, s.streamName())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.streamName(), err)
	}
	has := stream.CachedInfo().Config.Metadata
	own := has[metaNumber] == strconv.FormatUint(uint64(s.options.Number), 10)
	switch {
	case has[metaFilling] != "" && own:
		if err := s.js.DeleteStream(ctx, s.streamName()); err != nil {
			return fmt.Errorf("take away what was not finished in stream %s: %w", s.streamName(), err)
		}
		return nil
	case own:
		return fmt.Errorf("%w: stream %s", ErrFilled, s.streamName())
	default:
		return fmt.Errorf("there is a stream %s already, of another service: use another name", s.streamName())
	}
}

// checkFilling refuses a service that somebody else fills.
func (s *Store) checkFilling(has jetstream.StreamConfig) error {
	if filling := has.Metadata[metaFilling] != ""; filling && !s.options.Fill {
		return fmt.Errorf("%w (stream %s): it can be used when that is finished; if it was cut short, do it again", ErrFilling, has.Name)
	} else if !filling && s.options.Fill {
		return fmt.Errorf("the stream %s was made by somebody else just now", has.Name)
	}
	return nil
}

// Filled ends the filling of a store that was opened with [Options.Fill]: from now on the service can be used.
func (s *Store) Filled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := s.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("cluster: stream %s: %w", s.streamName(), err)
	}
	config := info.Config
	config.Metadata = maps.Clone(config.Metadata)
	delete(config.Metadata, metaFilling)
	if _, err := s.js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("cluster: open stream %s for use: %w", s.streamName(), err)
	}
	return nil
}
