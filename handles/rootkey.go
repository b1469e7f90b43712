package handles

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

const (
	rootSize = 32

	// label names purpose, version and thereby the MAC. Being part of the derivation, it need
	// not be under the MAC, which then runs over two blocks.
	label = "pipe-handle/v1\x00\x00"

	// cacheSize is the number of tenants per root key whose derived keys are at hand: 32 KiB
	// for the table and under 1 KiB per tenant. Tenants numbered one after the other share no
	// place until there are more than that; two that do cost each other derivations, about
	// 2 µs each.
	cacheSize = 1 << 12
)

// rootKey is what one line of the key file stands for. It keeps what HKDF extracts from the
// root, never the root. It is safe for concurrent use.
type rootKey struct {
	prk   [sha256.Size]byte
	cache [cacheSize]atomic.Pointer[tenantKey]
}

// tenantKey is the key of one tenant in one epoch. It is immutable.
type tenantKey struct {
	tenant, epoch uint32
	mac           *cmac
}

func newRootKey(cluster string, root []byte) (*rootKey, error) {
	prk, err := hkdf.Extract(sha256.New, root, []byte(cluster))
	if err != nil {
		return nil, fmt.Errorf("derive from root key: %w", err) // unreachable: only for roots under 14 bytes, and only in FIPS mode
	}
	k := &rootKey{prk: [sha256.Size]byte(prk)}
	if _, err := k.derive(0, 0); err != nil { // so that callers may rely on it
		return nil, fmt.Errorf("derive from root key: %w", err) // unreachable: as above
	}
	return k, nil
}

func (k *rootKey) equal(other *rootKey) bool {
	return subtle.ConstantTimeCompare(k.prk[:], other.prk[:]) == 1
}

func (k *rootKey) derive(tenant, epoch uint32) (*tenantKey, error) {
	info := []byte(label)
	info = binary.BigEndian.AppendUint32(info, tenant)
	info = binary.BigEndian.AppendUint32(info, epoch)
	key, err := hkdf.Expand(sha256.New, k.prk[:], string(info), 32)
	if err != nil {
		return nil, err // unreachable: neither key nor length is out of bounds
	}
	mac, err := newCMAC(key)
	if err != nil {
		return nil, err // unreachable: 32 bytes are a key
	}
	return &tenantKey{tenant: tenant, epoch: epoch, mac: mac}, nil
}

// cached returns nil if the key is not at hand.
func (k *rootKey) cached(tenant, epoch uint32) *tenantKey {
	t := k.cache[tenant%cacheSize].Load()
	if t == nil || t.tenant != tenant || t.epoch != epoch {
		return nil
	}
	return t
}

// keep puts t in the cache. It must only be called for keys that have minted or verified a
// handle, lest garbage push out the keys in use. A tenant's earlier epoch is not kept in
// place of a later one, lest a client with revoked handles do so.
func (k *rootKey) keep(t *tenantKey) {
	place := &k.cache[t.tenant%cacheSize]
	if old := place.Load(); old != nil && old.tenant == t.tenant && old.epoch > t.epoch {
		return
	}
	place.Store(t)
}
