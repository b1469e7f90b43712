package handles

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// skew is how long after its expiry a handle is still taken, for clocks that disagree.
const skew = 5 // seconds

// KeyRing mints and verifies handles. It is safe for concurrent use: minting and verifying
// take no lock and, once a tenant's key is derived, allocate nothing, also while
// [KeyRing.Replace] changes the keys. Its keys cannot be read out or printed.
type KeyRing struct {
	cluster string
	scratch sync.Pool // of *[aes.BlockSize]byte, for cmac.sum

	state atomic.Pointer[ringState] // replaced as a whole, under mu

	mu sync.Mutex // one writer of state at a time
}

// ringState is what one call to Mint or Verify sees. It is immutable.
type ringState struct {
	keys   [256]ringKey // by key id
	mint   uint8
	epochs map[uint32]uint32 // by tenant, where not 0
}

// ringKey with a nil root is an unknown key id.
type ringKey struct {
	root    *rootKey
	dropped bool
}

// NewEphemeral returns a ring with one random key in a cluster with a random id, for a server
// without a key file: nobody else can verify its handles, nor can the same server after a
// restart.
func NewEphemeral() (*KeyRing, error) {
	root := make([]byte, rootSize)
	_, _ = rand.Read(root) // never fails: it ends the process instead
	cluster := rand.Text()
	key, err := newRootKey(cluster, root)
	if err != nil {
		return nil, err // unreachable: see newRootKey
	}
	state := &ringState{}
	state.keys[0].root = key
	return newKeyRing(cluster, state), nil
}

// ParseKeys returns a ring with the keys of a key file, in the format that
// [GenerateKeyLine] describes. The cluster id separates clusters that share a key file: each
// refuses the others' handles. It has to stay the same for as long as handles are to be
// verified. Errors wrap [ErrKeyFile], name the line and what to do, and never show key bytes.
func ParseKeys(cluster string, file []byte) (*KeyRing, error) {
	state, err := parseKeyFile(cluster, file)
	if err != nil {
		return nil, err
	}
	return newKeyRing(cluster, state), nil
}

func newKeyRing(cluster string, state *ringState) *KeyRing {
	r := &KeyRing{cluster: cluster}
	r.scratch.New = func() any { return new([aes.BlockSize]byte) }
	r.state.Store(state)
	return r
}

// Replace changes to the keys of another key file, all at once: a call to Mint or Verify sees
// either the old keys or the new. Handles minted under a key that is still there verify if
// its state is mint or accept, and are [ErrRevoked] if it is dropped; without their key they
// are [ErrInvalid]. An id that now has another root is refused, as it would turn handles in
// use into forgeries: remove the id, wait for longer than any handle lives, then reuse it.
// Errors are as for [ParseKeys] and leave the ring as it was.
func (r *KeyRing) Replace(file []byte) error {
	next, err := parseKeyFile(r.cluster, file)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.state.Load()
	for id := range next.keys {
		was, is := old.keys[id].root, next.keys[id].root
		if was == nil || is == nil {
			continue
		}
		if !was.equal(is) {
			return fmt.Errorf("%w: key id %d is in use with another root: give the new key an id of its own", ErrKeyFile, id)
		}
		next.keys[id].root = was // with its cache
	}
	next.epochs = old.epochs
	r.state.Store(next)
	return nil
}

// SetTenantEpoch sets the epoch that goes into the keys of a tenant, 0 if never set. Raising
// it revokes all the tenant's handles at once. Raise it by one: Verify also tries the epoch
// just before, and so answers [ErrRevoked] for handles minted in that one; those of earlier
// epochs get [ErrInvalid], like anything that no key explains, since trying them all would
// let garbage cost more with every revocation. A lower epoch than the present one is ignored,
// as it would bring revoked handles back to life. Each call copies the list of tenants that
// have an epoch: not for frequent use.
func (r *KeyRing) SetTenantEpoch(tenant, epoch uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.state.Load()
	if epoch <= old.epochs[tenant] {
		return
	}
	next := *old
	next.epochs = maps.Clone(old.epochs)
	if next.epochs == nil {
		next.epochs = make(map[uint32]uint32)
	}
	next.epochs[tenant] = epoch
	r.state.Store(&next)
}

// Mint returns a genuine handle with these claims, under the key in state mint. It returns
// the zero Handle if the claims have no tenant or no known kind, which is a mistake of the
// caller. Same claims, same key, same epoch: same handle; the nonce tells handles apart.
func (r *KeyRing) Mint(c Claims) Handle {
	state := r.state.Load()
	h, ok := c.encode(state.mint)
	if !ok {
		return Handle{}
	}
	root := state.keys[state.mint].root
	epoch := state.epochs[c.Tenant]
	key := root.cached(c.Tenant, epoch)
	if key == nil {
		var err error
		if key, err = root.derive(c.Tenant, epoch); err != nil {
			return Handle{} // unreachable: newRootKey has tried it
		}
		root.keep(key)
	}
	tag := r.tag(key, &h)
	copy(h.b[offTag:], tag[:])
	return h
}

// Verify reports whether h is genuine and may be used by a caller of this tenant now. The
// checks come in this order, and the first that fails decides: form, key id and MAC
// ([ErrInvalid]), tenant ([ErrUnknown]), expiry ([ErrExpired], from 5 seconds after it, for
// clocks that disagree), dropped key or past tenant epoch ([ErrRevoked]). Still for the caller
// to check: the kind, and whether what the handle stands for exists and has its nonce.
func (r *KeyRing) Verify(h Handle, tenant uint32, now time.Time) error {
	if !h.wellFormed() {
		return ErrInvalid // the zero Handle: no other malformed one can be made
	}
	state := r.state.Load()
	key := state.keys[h.KeyID()]
	if key.root == nil {
		return ErrInvalid
	}
	revoked := key.dropped
	epoch := state.epochs[h.Tenant()]
	if !r.genuine(key.root, &h, epoch) {
		if epoch == 0 || !r.genuine(key.root, &h, epoch-1) {
			return ErrInvalid
		}
		revoked = true
	}
	switch {
	case h.Tenant() != tenant:
		return ErrUnknown
	case now.Unix() >= h.expiryUnix()+skew:
		return ErrExpired
	case revoked:
		return ErrRevoked
	}
	return nil
}

// genuine reports whether the tag of h is right in this epoch of the tenant it names.
func (r *KeyRing) genuine(root *rootKey, h *Handle, epoch uint32) bool {
	tenant := h.Tenant()
	key := root.cached(tenant, epoch)
	known := key != nil
	if !known {
		var err error
		if key, err = root.derive(tenant, epoch); err != nil {
			return false // unreachable: newRootKey has tried it
		}
	}
	tag := r.tag(key, h)
	if subtle.ConstantTimeCompare(tag[:], h.b[offTag:]) == 0 {
		return false
	}
	if !known {
		root.keep(key)
	}
	return true
}

func (r *KeyRing) tag(key *tenantKey, h *Handle) [aes.BlockSize]byte {
	x := r.scratch.Get().(*[aes.BlockSize]byte)
	key.mac.sum(x, h.b[:offTag])
	tag := *x
	r.scratch.Put(x)
	return tag
}

// Fingerprints tell keys apart and do not give them away: that of the key which Mint uses, and those of all keys whose
// handles Verify takes.
func (r *KeyRing) Fingerprints() (mint string, accept []string) {
	state := r.state.Load()
	for id := range state.keys {
		k := &state.keys[id]
		if k.root == nil || k.dropped {
			continue
		}
		mark := fmt.Sprintf("%02x-%x", id, k.root.prove("fingerprint v1", nil)[:8])
		accept = append(accept, mark)
		if uint8(id) == state.mint {
			mint = mark
		}
	}
	return mint, accept
}
