package modeltest

import "github.com/replyq/replyq/broker"

// configure changes some fields of a queue's configuration; those that are 0 have their defaults.
func (m *model) configure(k *call, q *queue, r *broker.UpdateQueue) {
	c := &q.given
	for _, field := range []struct {
		is  broker.ConfigFields
		set func()
	}{
		{broker.ConfigMaxLength, func() { c.MaxLength = r.Config.MaxLength }},
		{broker.ConfigMaxBytes, func() { c.MaxBytes = r.Config.MaxBytes }},
		{broker.ConfigDropOldest, func() { c.DropOldest = r.Config.DropOldest }},
		{broker.ConfigDefaultExpiry, func() { c.DefaultExpiry = r.Config.DefaultExpiry }},
		{broker.ConfigLeaseTime, func() { c.LeaseTime = r.Config.LeaseTime }},
		{broker.ConfigMaxFailures, func() { c.MaxFailures = r.Config.MaxFailures }},
		{broker.ConfigBackoff, func() { c.Backoff = r.Config.Backoff }},
		{broker.ConfigMaxBackoff, func() { c.MaxBackoff = r.Config.MaxBackoff }},
		{broker.ConfigGroupConcurrency, func() { c.GroupConcurrency = r.Config.GroupConcurrency }},
		{broker.ConfigPaused, func() { c.Paused = r.Config.Paused }},
		{broker.ConfigMaxDead, func() { c.MaxDead = r.Config.MaxDead }},
	} {
		if r.Fields&field.is != 0 {
			field.set()
		}
	}
	q.config = c.Effective()
	m.trimDead(q)
	config := q.config
	wantBody(k, true, "the queue", func(b *broker.QueueList) string {
		if len(b.Queues) != 1 {
			return "is not one queue"
		}
		return differs(config, b.Queues[0].Config)
	})
}
