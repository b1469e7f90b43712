package server

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// queueConfig checks and converts a configuration; nil gives all defaults.
func queueConfig(c *queuepb.QueueConfig) (broker.QueueConfig, *broker.Error) {
	if c == nil {
		return broker.QueueConfig{}, nil
	}
	out := broker.QueueConfig{
		MaxLength: c.MaxLength, MaxBytes: c.MaxBytes, MaxFailures: c.MaxFailures,
		GroupConcurrency: c.GroupConcurrency, Paused: c.Paused, MaxDead: c.MaxDead,
	}
	switch c.Overflow {
	case queuepb.Overflow_OVERFLOW_UNSPECIFIED, queuepb.Overflow_OVERFLOW_REFUSE:
	case queuepb.Overflow_OVERFLOW_DROP_OLDEST:
		out.DropOldest = true
	default:
		return out, unknownEnum("config.overflow")
	}
	if c.MaxFailures > maxFailuresLimit {
		return out, badConfig("max_failures", fmt.Sprintf("use at most %d, or leave it unset", maxFailuresLimit))
	}
	if c.MaxDead > maxDeadLimit {
		return out, badConfig("max_dead", fmt.Sprintf("use at most %d, or leave it unset", maxDeadLimit))
	}
	for _, field := range []struct {
		name        string
		give        *durationpb.Duration
		take        *time.Duration
		least, most time.Duration
		use         string
	}{
		{"default_expiry", c.DefaultExpiry, &out.DefaultExpiry, 1, maxDelay, "more than 0 and at most 365 days"},
		{"lease_time", c.LeaseTime, &out.LeaseTime, minLeaseTime, maxLeaseTime, "1 s to 12 h"},
		{"backoff", c.Backoff, &out.Backoff, 0, maxDelay, "0 to 365 days"},
		{"max_backoff", c.MaxBackoff, &out.MaxBackoff, 1, maxDelay, "more than 0 and at most 365 days"},
	} {
		if field.give == nil {
			continue
		}
		d, err := duration(field.give, "config."+field.name)
		if err != nil {
			return out, err
		}
		if d < field.least || d > field.most {
			return out, badConfig(field.name, "use "+field.use+", or leave it unset")
		}
		*field.take = d
	}
	return out, nil
}

func badConfig(field, text string) *broker.Error {
	return refuse(reasonQueueConfigInvalid, "config."+field, text)
}

// configMessage is the configuration as administrators see it, with its defaults.
func configMessage(c *broker.QueueConfig) *queuepb.QueueConfig {
	out := &queuepb.QueueConfig{
		MaxLength: c.MaxLength, MaxBytes: c.MaxBytes, Overflow: queuepb.Overflow_OVERFLOW_REFUSE,
		LeaseTime: durationpb.New(c.LeaseTime), MaxFailures: c.MaxFailures, MaxBackoff: durationpb.New(c.MaxBackoff),
		GroupConcurrency: c.GroupConcurrency, Paused: c.Paused, MaxDead: c.MaxDead,
	}
	if c.DropOldest {
		out.Overflow = queuepb.Overflow_OVERFLOW_DROP_OLDEST
	}
	if c.DefaultExpiry > 0 {
		out.DefaultExpiry = durationpb.New(c.DefaultExpiry)
	}
	if c.Backoff > 0 {
		out.Backoff = durationpb.New(c.Backoff)
	}
	return out
}

// configPaths are the fields that an update mask may name.
var configPaths = map[string]broker.ConfigFields{
	"max_length":        broker.ConfigMaxLength,
	"max_bytes":         broker.ConfigMaxBytes,
	"overflow":          broker.ConfigDropOldest,
	"default_expiry":    broker.ConfigDefaultExpiry,
	"lease_time":        broker.ConfigLeaseTime,
	"max_failures":      broker.ConfigMaxFailures,
	"backoff":           broker.ConfigBackoff,
	"max_backoff":       broker.ConfigMaxBackoff,
	"group_concurrency": broker.ConfigGroupConcurrency,
	"paused":            broker.ConfigPaused,
	"max_dead":          broker.ConfigMaxDead,
}

// configFields converts an update mask; an empty one names all fields.
func configFields(mask *fieldmaskpb.FieldMask) (broker.ConfigFields, *broker.Error) {
	if len(mask.GetPaths()) == 0 {
		return broker.ConfigAll, nil
	}
	var fields broker.ConfigFields
	for i, path := range mask.Paths {
		field, ok := configPaths[path]
		if !ok {
			return 0, refuse(reasonMaskInvalid, fmt.Sprintf("update_mask.paths[%d]", i),
				fmt.Sprintf("config has no field %s: use names of fields as in queue.proto, e.g. paused", show(path)))
		}
		fields |= field
	}
	return fields, nil
}
