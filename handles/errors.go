package handles

import "errors"

// The errors of this package, to be tested with [errors.Is]. None ever carries bytes of a
// token or of a key.
var (
	// ErrInvalid says that a token is malformed, forged, damaged, from another cluster, or
	// minted under a key that is not in the ring. It is one error for all of these, so that
	// it tells a forger nothing.
	ErrInvalid = errors.New("handle is invalid")

	// ErrUnknown says that a token is genuine and belongs to another tenant.
	ErrUnknown = errors.New("handle is unknown")

	// ErrExpired says that a token was genuine and its expiry has passed.
	ErrExpired = errors.New("handle has expired")

	// ErrRevoked says that a token was genuine and its key was dropped, or its tenant's epoch
	// has moved on by one since it was minted.
	ErrRevoked = errors.New("handle was revoked")

	// ErrKeyFile says that a key file is unusable. The error that wraps it names the line and
	// what to do.
	ErrKeyFile = errors.New("key file is unusable")
)
