package handles

import (
	"encoding/binary"
	"strconv"
	"time"
)

// Size is the length of a handle in bytes.
const Size = 48

// Where the fields are; the package comment shows the layout.
const (
	offKind     = 0
	offKeyID    = 1
	offReserved = 2
	offTenant   = 4
	offShard    = 8
	offAttempt  = 10
	offStore    = 12
	offSlot     = 16
	offNonce    = 20
	offExpiry   = 28
	offTag      = 32
)

const (
	version = 1

	// epochUnix is the moment expiries are counted from, 2024-01-01T00:00:00Z.
	epochUnix = 1_704_067_200
)

// Kind says what a handle gives the right to. The zero Kind is no kind.
type Kind uint8

// The kinds of handles.
const (
	Send    Kind = 1 // reply through a pipe
	Receive Kind = 2 // await a pipe, and cancel it
	Lease   Kind = 3 // settle or extend one delivery
)

// String returns "send", "receive" or "lease", or "kind(n)" for any other number.
func (k Kind) String() string {
	switch k {
	case Send:
		return "send"
	case Receive:
		return "receive"
	case Lease:
		return "lease"
	default:
		return "kind(" + strconv.Itoa(int(k)) + ")"
	}
}

// Handle is a token for one end of a pipe or for a lease. It is a plain value: comparable,
// usable as a map key, safe for concurrent use. The zero Handle is "no handle"; every other
// one is well formed, having been minted or parsed, which does not yet make it genuine:
// [KeyRing.Verify] does. On the zero Handle all accessors return zero values.
type Handle struct{ b [Size]byte }

// ParseBytes returns the handle with these [Size] bytes, which it copies. Like [Parse] it
// checks the form and never the MAC; the error is [ErrInvalid].
func ParseBytes(b []byte) (Handle, error) {
	if len(b) != Size {
		return Handle{}, ErrInvalid
	}
	h := Handle{[Size]byte(b)}
	if !h.wellFormed() {
		return Handle{}, ErrInvalid
	}
	return h, nil
}

// wellFormed checks all that can be checked without a key. The zero Handle is not well formed.
func (h *Handle) wellFormed() bool {
	if h.b[offKind]>>4 != version || binary.BigEndian.Uint16(h.b[offReserved:]) != 0 {
		return false
	}
	switch Kind(h.b[offKind] & 0xf) {
	case Send, Receive:
		if binary.BigEndian.Uint16(h.b[offAttempt:]) != 0 {
			return false
		}
	case Lease:
	default:
		return false
	}
	return binary.BigEndian.Uint32(h.b[offTenant:]) != 0 && binary.BigEndian.Uint32(h.b[offExpiry:]) != 0
}

// IsZero reports whether h is the zero Handle, "no handle".
func (h Handle) IsZero() bool { return h == Handle{} }

// Kind returns what the handle gives the right to.
func (h Handle) Kind() Kind { return Kind(h.b[offKind] & 0xf) }

// KeyID returns the id of the key it was minted under.
func (h Handle) KeyID() uint8 { return h.b[offKeyID] }

// Tenant returns the number of the tenant it belongs to.
func (h Handle) Tenant() uint32 { return binary.BigEndian.Uint32(h.b[offTenant:]) }

// Shard returns the shard that owns the pipe or the delivery.
func (h Handle) Shard() uint16 { return binary.BigEndian.Uint16(h.b[offShard:]) }

// Attempt returns the low 16 bits of the attempt that a lease token stands for, and 0 for
// the other kinds.
func (h Handle) Attempt() uint16 { return binary.BigEndian.Uint16(h.b[offAttempt:]) }

// Store returns the store number: with a journal fixed at its creation, without one random
// per start.
func (h Handle) Store() uint32 { return binary.BigEndian.Uint32(h.b[offStore:]) }

// Slot returns the index of the slot in its shard.
func (h Handle) Slot() uint32 { return binary.BigEndian.Uint32(h.b[offSlot:]) }

// Nonce returns the random number given to the slot when it was allocated. Compare it with
// the slot's in constant time: it is the secret that a leaked key does not give away.
func (h Handle) Nonce() uint64 { return binary.BigEndian.Uint64(h.b[offNonce:]) }

// Expiry returns the moment from which the handle is refused (give or take the allowance of
// [KeyRing.Verify]), in UTC, to the second.
func (h Handle) Expiry() time.Time {
	if h.IsZero() {
		return time.Time{}
	}
	return time.Unix(h.expiryUnix(), 0).UTC()
}

func (h *Handle) expiryUnix() int64 {
	return epochUnix + int64(binary.BigEndian.Uint32(h.b[offExpiry:]))
}
