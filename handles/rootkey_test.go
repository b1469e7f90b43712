package handles

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// newTestRing has one key, made of the byte 7.
func newTestRing(t *testing.T) (*KeyRing, *rootKey) {
	t.Helper()
	key, err := newRootKey("cluster", bytes.Repeat([]byte{7}, rootSize))
	if err != nil {
		t.Fatal(err)
	}
	state := &ringState{}
	state.keys[0].root = key
	return newKeyRing("cluster", state), key
}

func TestCacheKeepsOutGarbage(t *testing.T) {
	minter, _ := newTestRing(t)
	verifier, key := newTestRing(t)
	now := time.Unix(epochUnix+1000, 0)
	h := minter.Mint(Claims{Kind: Send, Tenant: 5, Expires: now.Unix() + 60})
	forged := h
	forged.b[Size-1] ^= 1

	if err := verifier.Verify(forged, 5, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("Verify(forged) = %v, want %v", err, ErrInvalid)
	}
	if key.cached(5, 0) != nil {
		t.Error("a forged handle left its tenant's key in the cache")
	}
	if err := verifier.Verify(h, 5, now); err != nil {
		t.Errorf("Verify(genuine) = %v", err)
	}
	if key.cached(5, 0) == nil {
		t.Error("a genuine handle did not leave its tenant's key in the cache")
	}
}

func TestCacheSharedPlace(t *testing.T) {
	ring, key := newTestRing(t)
	now := time.Unix(epochUnix+1000, 0)
	const a, b = 5, 5 + cacheSize
	ha := ring.Mint(Claims{Kind: Send, Tenant: a, Expires: now.Unix() + 60})
	hb := ring.Mint(Claims{Kind: Send, Tenant: b, Expires: now.Unix() + 60})
	if key.cached(a, 0) != nil || key.cached(b, 0) == nil {
		t.Fatal("the two tenants do not share a place: the test is out of date")
	}
	for range 3 {
		if err := ring.Verify(ha, a, now); err != nil {
			t.Errorf("Verify(tenant %d) = %v", a, err)
		}
		if err := ring.Verify(hb, b, now); err != nil {
			t.Errorf("Verify(tenant %d) = %v", b, err)
		}
	}
}

func TestCachePrefersLaterEpoch(t *testing.T) {
	ring, key := newTestRing(t)
	now := time.Unix(epochUnix+1000, 0)
	c := Claims{Kind: Send, Tenant: 5, Expires: now.Unix() + 60}
	old := ring.Mint(c)
	ring.SetTenantEpoch(5, 1)
	fresh := ring.Mint(c)
	if err := ring.Verify(old, 5, now); !errors.Is(err, ErrRevoked) {
		t.Errorf("Verify(handle of the epoch before) = %v, want %v", err, ErrRevoked)
	}
	if key.cached(5, 1) == nil {
		t.Error("a revoked handle pushed the present key out of the cache")
	}
	if err := ring.Verify(fresh, 5, now); err != nil {
		t.Errorf("Verify(handle of the present epoch) = %v", err)
	}
}

func TestReplaceKeepsCache(t *testing.T) {
	const line = "1 mint 2026-01-01T00:00:00Z 0101010101010101010101010101010101010101010101010101010101010101\n"
	ring, err := ParseKeys("cluster", []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	ring.Mint(Claims{Kind: Send, Tenant: 5, Expires: epochUnix + 60})
	if err := ring.Replace([]byte("# reloaded\n" + line)); err != nil {
		t.Fatal(err)
	}
	if ring.state.Load().keys[1].root.cached(5, 0) == nil {
		t.Error("reloading the same key lost its cache")
	}
}
