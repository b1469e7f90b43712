package broker

import (
	"sort"
	"strings"
)

func (s *shard) listQueues(l *link, op *Op, r *ListQueues) {
	list := s.queues(l.session.identity.Tenant, r)
	if r.Name != "" && len(list.Queues) == 0 {
		s.refuse(l, op.ID, errQueueNotFound("name", r.Name, ""))
		return
	}
	s.emit(l, op.ID, true, list)
}

func (s *shard) queues(tenant uint32, r *ListQueues) *QueueList {
	list := &QueueList{}
	if r.Name != "" {
		if q := s.st.byName[queueKey{tenant, r.Name}]; q != nil {
			list.Queues = append(list.Queues, s.queueInfo(q))
		}
		return list
	}
	var found []*queue
	for _, q := range s.st.queues {
		if q != nil && !q.deleted && q.tenant == tenant && strings.HasPrefix(q.name, r.Prefix) && q.name > r.After {
			found = append(found, q)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].name < found[j].name })
	n := min(listLimit(r), len(found))
	list.More = len(found) > n
	for _, q := range found[:n] {
		list.Queues = append(list.Queues, s.queueInfo(q))
	}
	return list
}

func listLimit(r *ListQueues) int {
	if r.Limit == 0 {
		return 100
	}
	return r.Limit
}

func (s *shard) queueInfo(q *queue) QueueInfo {
	live := &q.live
	info := QueueInfo{
		Name: q.name, CreatedAt: q.created, Config: *q.config, Ready: live.readyN, InFlight: live.leasedN, Delayed: live.delayedN,
		Dead: uint64(len(q.dead)), Bytes: live.bytes, Consumers: uint32(live.consumers), Waiters: live.waiters, Enqueued: live.enqueued,
		Delivered: live.delivered, Acked: live.acked, Failed: live.failed,
	}
	info.OldestAge = s.oldestAge(q)
	info.EnqueueRate, info.AckRate = s.rates(q)
	return info
}
