// Package handles mints, parses and verifies handles: small serialisable tokens, each
// standing for one end of a pipe (the send end is a reply_to, the receive end a future) or
// for the lease on a delivery.
//
// Two types are enough to know. A [Handle] is the token itself: 48 bytes, comparable, with a
// text form of 69 characters that fits in JSON, headers and URLs. A [KeyRing] holds the keys
// that mint handles and tell real ones from forged ones. [Scan] finds handles in payloads.
//
// # What a handle proves
//
// A handle that passes [KeyRing.Verify] was minted under one of the ring's keys, in the same
// cluster, for the tenant it names and in that tenant's present epoch; no bit of it has
// changed and it has not expired. It is a bearer token: whoever has the bytes has the right.
// Whether the pipe behind it still exists is for the broker to say, which also compares the
// nonce, so a leaked key alone opens no existing pipe.
//
// # Layout, version 1, big endian
//
//	off len field
//	  0   1  version (high nibble, 1) | kind (low nibble: 1 send, 2 receive, 3 lease)
//	  1   1  key id
//	  2   2  reserved, 0
//	  4   4  tenant number, not 0
//	  8   2  shard
//	 10   2  low 16 bits of the attempt in a lease token, else reserved, 0
//	 12   4  store number
//	 16   4  slot
//	 20   8  nonce
//	 28   4  expiry, seconds since 2024-01-01T00:00:00Z, not 0
//	 32  16  tag
//
//	K   = HKDF-SHA256(secret: root of the key id, salt: cluster id,
//	                  info: "pipe-handle/v1" 00 00 || tenant || tenant epoch), 32 bytes
//	tag = AES-256-CMAC(K, bytes 0..31)
//
// Tenant and tenant epoch are 4 bytes each in info. The text form is qh1s_, qh1r_ or qh1l_ by
// kind, followed by the 48 bytes in base64url without padding. testdata/vectors.json has
// tokens with all intermediate values, for checking other implementations. Why CMAC:
// docs/decisions/0002-handle-mac.md.
//
// # Printing and serialising
//
// Printing a handle shows handle(send,t=4242,#9f3a61c2) and never the token; encoding it
// (text, JSON, binary, SQL) gives the token, since that is what handles are for. Three ways
// around the first rule are Go's, and callers have to know them:
//
//   - Package fmt calls no methods on an unexported field of a struct, and shows its bytes as
//     numbers.
//   - It calls none on an operand that it complains about, either: %s, which does not fit a
//     pointer, shows all that a slice of pointers to structs points to, after "%!s(".
//   - [log/slog.JSONHandler] encodes structs, slices and maps as JSON, tokens included.
//
// So log a handle as an attribute of its own, or its [Handle.Fingerprint], and never print a
// request.
//
// The package does no I/O, reads no clock, starts no goroutines and knows nothing of pipes.
package handles
