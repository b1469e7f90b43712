package broker

// messageExtras is what most messages do without, so that they need not pay for it.
type messageExtras struct {
	handles  []carriedHandle
	priority uint8
	group    string
	history  []attempt // oldest first
	// deadReason is what the pipes of a dead message's handles ended with, if it was their last carrier.
	deadReason EndReason
	agesFrom   Time // if not from when it was enqueued: it was held back at first, or has been redriven since

	live liveExtras
}

// liveExtras is what extras have besides their durable state.
type liveExtras struct {
	group *group
	// older and newer link the messages of a queue's lanes by age, from the first time that they are ready.
	older, newer uint32
	aged         bool
}

// special reports whether a message is in a queue's lanes: it has a priority or a group.
func (m *message) special() bool {
	return m.extras != nil && (m.extras.priority != 0 || m.extras.group != "")
}

// handles are those that a message carries besides its reply_to.
func (m *message) handles() []carriedHandle {
	if m.extras == nil {
		return nil
	}
	return m.extras.handles
}

// setHandles needs extras only if there are handles, or were.
func (m *message) setHandles(hs []carriedHandle) {
	if len(hs) > 0 && m.extras == nil {
		m.extras = &messageExtras{}
	}
	if m.extras != nil {
		m.extras.handles = hs
	}
}

func (m *message) priority() uint8 {
	if m.extras == nil {
		return 0
	}
	return m.extras.priority
}

func (m *message) group() string {
	if m.extras == nil {
		return ""
	}
	return m.extras.group
}

// ageFrom lets a message age from a time on that is not when it was enqueued.
func (m *message) ageFrom(at Time) {
	if m.extras == nil {
		m.extras = &messageExtras{}
	}
	m.extras.agesFrom = at
}

// readySince is the time by which a message ages.
func (m *message) readySince() Time {
	if m.attempt == 0 {
		return m.since
	}
	if m.extras != nil && m.extras.agesFrom != 0 {
		return m.extras.agesFrom
	}
	return m.enqueued
}
