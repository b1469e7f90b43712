package broker

// What an append has kept is true: with it, nobody else can have taken the journal over before. What is released without
// one, such as the answer to a question, needs another proof that this broker is still the owner, or its answer may be of
// yesterday: [Config.Lease]. It is asked after the shard was. When it says no, nothing is appended, which vouches as well as
// something: a lease may also lapse because it cannot be renewed, while the journal does well.

// vouchedLocked reports whether what was read until now may be said without an append.
func (k *keeper) vouchedLocked() bool { return k.lease == nil || k.lease() }

// mayRefuseLocked reports whether a session may be told that an operation was not carried out. One that can come back may
// have been elsewhere, and repeat what the next owner has carried out.
func (k *keeper) mayRefuseLocked(s *Session) bool { return s.key == "" || k.vouchedLocked() }
