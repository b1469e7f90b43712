package broker

import (
	"time"

	"github.com/replyq/replyq/broker/factpb"
)

// QueueConfig says how a queue behaves. Zero fields have the defaults that the wire contract names.
type QueueConfig struct {
	// MaxLength and MaxBytes bound what waits; 0 means no bound.
	MaxLength, MaxBytes uint64
	// DropOldest lets a full queue drop its oldest message for a new one. Else it refuses the new one.
	DropOldest bool
	// DefaultExpiry is that of messages that have none of their own; 0 means none.
	DefaultExpiry time.Duration
	// LeaseTime is that of consumers that name none.
	LeaseTime time.Duration
	// MaxFailures is how many attempts may fail before a message becomes a dead message.
	MaxFailures uint32
	// Backoff is how long a message is held back after its first failure, twice as long after each further one, and at
	// most MaxBackoff.
	Backoff, MaxBackoff time.Duration
	// GroupConcurrency bounds the deliveries of one group in flight; 0 means no bound.
	GroupConcurrency uint32
	// Paused stops deliveries.
	Paused bool
	// MaxDead is how many dead messages are kept.
	MaxDead uint32
}

// ConfigFields is a set of fields of a [QueueConfig].
type ConfigFields uint16

// The fields.
const (
	ConfigMaxLength ConfigFields = 1 << iota
	ConfigMaxBytes
	ConfigDropOldest
	ConfigDefaultExpiry
	ConfigLeaseTime
	ConfigMaxFailures
	ConfigBackoff
	ConfigMaxBackoff
	ConfigGroupConcurrency
	ConfigPaused
	ConfigMaxDead

	ConfigAll ConfigFields = 1<<iota - 1
)

const (
	defaultLeaseTime   = 30 * time.Second
	defaultMaxFailures = 20
	defaultMaxBackoff  = 10 * time.Minute
	defaultMaxDead     = 1000
)

// defaultConfig is shared by all queues that were not configured.
var defaultConfig = QueueConfig{}.Effective()

// Effective fills in the defaults.
func (c QueueConfig) Effective() QueueConfig {
	if c.LeaseTime == 0 {
		c.LeaseTime = defaultLeaseTime
	}
	if c.MaxFailures == 0 {
		c.MaxFailures = defaultMaxFailures
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = max(defaultMaxBackoff, c.Backoff)
	}
	if c.MaxDead == 0 {
		c.MaxDead = defaultMaxDead
	}
	return c
}

// with takes some fields from another configuration.
func (c QueueConfig) with(other QueueConfig, fields ConfigFields) QueueConfig {
	take(&c.MaxLength, other.MaxLength, fields&ConfigMaxLength)
	take(&c.MaxBytes, other.MaxBytes, fields&ConfigMaxBytes)
	take(&c.DropOldest, other.DropOldest, fields&ConfigDropOldest)
	take(&c.DefaultExpiry, other.DefaultExpiry, fields&ConfigDefaultExpiry)
	take(&c.LeaseTime, other.LeaseTime, fields&ConfigLeaseTime)
	take(&c.MaxFailures, other.MaxFailures, fields&ConfigMaxFailures)
	take(&c.Backoff, other.Backoff, fields&ConfigBackoff)
	take(&c.MaxBackoff, other.MaxBackoff, fields&ConfigMaxBackoff)
	take(&c.GroupConcurrency, other.GroupConcurrency, fields&ConfigGroupConcurrency)
	take(&c.Paused, other.Paused, fields&ConfigPaused)
	take(&c.MaxDead, other.MaxDead, fields&ConfigMaxDead)
	return c
}

func take[T any](to *T, from T, field ConfigFields) {
	if field != 0 {
		*to = from
	}
}

// fact is the configuration as it was given: its defaults are those of the version that reads it.
func (c QueueConfig) fact(queue uint32) *factpb.QueueConfigured {
	return &factpb.QueueConfigured{
		Queue: queue, MaxLength: c.MaxLength, MaxBytes: c.MaxBytes, DropOldest: c.DropOldest,
		DefaultExpiry: int64(c.DefaultExpiry), LeaseTime: int64(c.LeaseTime), MaxFailures: c.MaxFailures,
		Backoff: int64(c.Backoff), MaxBackoff: int64(c.MaxBackoff), GroupConcurrency: c.GroupConcurrency,
		Paused: c.Paused, MaxDead: c.MaxDead,
	}
}

func configOf(f *factpb.QueueConfigured) QueueConfig {
	return QueueConfig{
		MaxLength: f.MaxLength, MaxBytes: f.MaxBytes, DropOldest: f.DropOldest,
		DefaultExpiry: time.Duration(f.DefaultExpiry), LeaseTime: time.Duration(f.LeaseTime), MaxFailures: f.MaxFailures,
		Backoff: time.Duration(f.Backoff), MaxBackoff: time.Duration(f.MaxBackoff), GroupConcurrency: f.GroupConcurrency,
		Paused: f.Paused, MaxDead: f.MaxDead,
	}
}

// backoff is how long a message is held back that has failed so often: exponential, and up to a tenth longer, at random,
// so that messages that failed together do not come back together.
func (s *shard) backoff(c *QueueConfig, failures uint32) time.Duration {
	if c.Backoff == 0 {
		return 0
	}
	d := c.MaxBackoff
	if doubled := min(failures-1, 62); c.Backoff <= c.MaxBackoff>>doubled {
		d = c.Backoff << doubled
	}
	return d + time.Duration(s.draw()%uint64(d/10+1))
}
