package handles

import (
	"encoding/binary"
	"math"
)

// Claims is what a handle says. See the accessors of [Handle] for the meaning of each field.
type Claims struct {
	Kind    Kind   // required
	Tenant  uint32 // required, not 0
	Shard   uint16
	Attempt uint16 // of a lease token; ignored for the other kinds
	Store   uint32
	Slot    uint32
	Nonce   uint64 // random, new for each allocation of the slot

	// Expires is the expiry in seconds of Unix time; round a fraction up. Moments outside
	// 2024-01-01T00:00:01Z to 2160-02-07T06:28:15Z become the nearer of the two, since every
	// handle expires.
	Expires int64
}

// encode returns the handle of c without its tag, and false if kind or tenant is missing.
func (c Claims) encode(keyID uint8) (h Handle, ok bool) {
	if c.Kind < Send || c.Kind > Lease || c.Tenant == 0 {
		return Handle{}, false
	}
	h.b[offKind] = version<<4 | byte(c.Kind)
	h.b[offKeyID] = keyID
	binary.BigEndian.PutUint32(h.b[offTenant:], c.Tenant)
	binary.BigEndian.PutUint16(h.b[offShard:], c.Shard)
	if c.Kind == Lease {
		binary.BigEndian.PutUint16(h.b[offAttempt:], c.Attempt)
	}
	binary.BigEndian.PutUint32(h.b[offStore:], c.Store)
	binary.BigEndian.PutUint32(h.b[offSlot:], c.Slot)
	binary.BigEndian.PutUint64(h.b[offNonce:], c.Nonce)
	binary.BigEndian.PutUint32(h.b[offExpiry:], expiryField(c.Expires))
	return h, true
}

// expiryField clamps before it subtracts, so that no int64 overflows.
func expiryField(unix int64) uint32 {
	return uint32(min(max(unix, epochUnix+1), epochUnix+math.MaxUint32) - epochUnix)
}
