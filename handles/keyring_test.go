package handles_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/replyq/replyq/handles"
)

func wantVerify(t *testing.T, ring *handles.KeyRing, h handles.Handle, want error) {
	t.Helper()
	if got := ring.Verify(h, h.Tenant(), now); !errors.Is(got, want) {
		t.Errorf("Verify(%v) = %v, want %v", h, got, want)
	}
}

func TestMintIsDeterministic(t *testing.T) {
	ring := newRing(t)
	if a, b := ring.Mint(claims(handles.Send)), newRing(t).Mint(claims(handles.Send)); a != b {
		t.Error("same key, same claims, different handles")
	}
	other := claims(handles.Send)
	other.Nonce++
	if a, b := ring.Mint(claims(handles.Send)), ring.Mint(other); a == b {
		t.Error("different nonces, same handle")
	}
}

func TestVerifyOrder(t *testing.T) {
	ring := newRing(t)
	h := ring.Mint(claims(handles.Send))
	bin, _ := h.MarshalBinary()
	bin[47] ^= 1
	forged, err := handles.ParseBytes(bin)
	if err != nil {
		t.Fatal(err)
	}
	revoking := newRing(t)
	revoking.SetTenantEpoch(h.Tenant(), 1)
	late := now.Add(time.Hour)
	tests := []struct {
		name   string
		ring   *handles.KeyRing
		h      handles.Handle
		tenant uint32
		now    time.Time
		want   error
	}{
		{"genuine", ring, h, 4242, now, nil},
		{"other tenant", ring, h, 1, now, handles.ErrUnknown},
		{"expired", ring, h, 4242, late, handles.ErrExpired},
		{"revoked", revoking, h, 4242, now, handles.ErrRevoked},
		{"forged, other tenant, expired", ring, forged, 1, late, handles.ErrInvalid},
		{"forged, revoked epoch", revoking, forged, 4242, now, handles.ErrInvalid},
		{"other tenant, expired, revoked", revoking, h, 1, late, handles.ErrUnknown},
		{"expired, revoked", revoking, h, 4242, late, handles.ErrExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.ring.Verify(tt.h, tt.tenant, tt.now); !errors.Is(got, tt.want) {
				t.Errorf("Verify = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestExpiryWithSkew(t *testing.T) {
	ring := newRing(t)
	h := ring.Mint(claims(handles.Send))
	tests := []struct {
		after time.Duration
		want  error
	}{
		{-time.Hour, nil},
		{0, nil},
		{4999 * time.Millisecond, nil},
		{5 * time.Second, handles.ErrExpired},
		{24 * time.Hour, handles.ErrExpired},
	}
	for _, tt := range tests {
		if got := ring.Verify(h, h.Tenant(), h.Expiry().Add(tt.after)); !errors.Is(got, tt.want) {
			t.Errorf("Verify %v after expiry = %v, want %v", tt.after, got, tt.want)
		}
	}
}

// TestTenantBinding moves a handle to another tenant by changing its field: the key differs.
func TestTenantBinding(t *testing.T) {
	ring := newRing(t)
	c := claims(handles.Send)
	h := ring.Mint(c)
	c.Tenant++
	other := ring.Mint(c)
	a, _ := h.MarshalBinary()
	b, _ := other.MarshalBinary()
	copy(a[4:8], b[4:8])
	moved, err := handles.ParseBytes(a)
	if err != nil {
		t.Fatal(err)
	}
	wantVerify(t, ring, moved, handles.ErrInvalid)
	wantVerify(t, ring, other, nil)
	if string(a[32:]) == string(b[32:]) {
		t.Error("two tenants, same tag")
	}
}

func TestOtherRings(t *testing.T) {
	h := newRing(t).Mint(claims(handles.Send))
	tests := map[string]struct{ cluster, file string }{
		"other cluster":  {"elsewhere", keyLine("3", "mint", rootA)},
		"other root":     {"test", keyLine("3", "mint", rootB)},
		"other id":       {"test", keyLine("4", "mint", rootA)},
		"other, dropped": {"test", keyLine("3", "dropped", rootB) + keyLine("4", "mint", rootA)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ring, err := handles.ParseKeys(tt.cluster, []byte(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			wantVerify(t, ring, h, handles.ErrInvalid)
		})
	}
}

func TestEphemeral(t *testing.T) {
	a, err := handles.NewEphemeral()
	if err != nil {
		t.Fatal(err)
	}
	b, err := handles.NewEphemeral()
	if err != nil {
		t.Fatal(err)
	}
	h := a.Mint(claims(handles.Send))
	wantVerify(t, a, h, nil)
	wantVerify(t, b, h, handles.ErrInvalid)
}

// TestRotation lives through the life of a key: accepted, minting, accepted, dropped, removed,
// and its id reused.
func TestRotation(t *testing.T) {
	ring, err := handles.ParseKeys("test", []byte(keyLine("1", "mint", rootA)))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(lines ...string) {
		t.Helper()
		if err := ring.Replace([]byte(strings.Join(lines, ""))); err != nil {
			t.Fatal(err)
		}
	}
	old := ring.Mint(claims(handles.Send))
	forgedBytes, _ := old.MarshalBinary()
	forgedBytes[40] ^= 0x10
	forged, err := handles.ParseBytes(forgedBytes)
	if err != nil {
		t.Fatal(err)
	}

	replace(keyLine("1", "mint", rootA), keyLine("2", "accept", rootB))
	if got := ring.Mint(claims(handles.Send)); got != old {
		t.Errorf("with the next key at accept, Mint = %v, want still %v", got, old)
	}

	replace(keyLine("1", "accept", rootA), keyLine("2", "mint", rootB))
	fresh := ring.Mint(claims(handles.Send))
	if old.KeyID() != 1 || fresh.KeyID() != 2 {
		t.Errorf("key ids before and after = %d, %d, want 1, 2", old.KeyID(), fresh.KeyID())
	}
	wantVerify(t, ring, old, nil)
	wantVerify(t, ring, fresh, nil)

	replace(keyLine("1", "dropped", rootA), keyLine("2", "mint", rootB))
	wantVerify(t, ring, old, handles.ErrRevoked)
	wantVerify(t, ring, forged, handles.ErrInvalid)
	wantVerify(t, ring, fresh, nil)
	if got := ring.Verify(old, 1, now); !errors.Is(got, handles.ErrUnknown) {
		t.Errorf("Verify of a dropped key's handle by another tenant = %v, want %v", got, handles.ErrUnknown)
	}

	const rootC = "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
	reused := keyLine("1", "mint", rootC) + keyLine("2", "accept", rootB)
	if err := ring.Replace([]byte(reused)); !errors.Is(err, handles.ErrKeyFile) {
		t.Errorf("Replace that reuses an id in use = %v, want %v", err, handles.ErrKeyFile)
	}
	wantVerify(t, ring, old, handles.ErrRevoked) // nothing has changed

	replace(keyLine("2", "mint", rootB))
	wantVerify(t, ring, old, handles.ErrInvalid)
	wantVerify(t, ring, fresh, nil)

	replace(reused)
	wantVerify(t, ring, old, handles.ErrInvalid)
	wantVerify(t, ring, fresh, nil)
	wantVerify(t, ring, ring.Mint(claims(handles.Send)), nil)
}

func TestReplaceRefusesBadFile(t *testing.T) {
	ring := newRing(t)
	h := ring.Mint(claims(handles.Send))
	if err := ring.Replace([]byte("nonsense")); !errors.Is(err, handles.ErrKeyFile) {
		t.Errorf("Replace(nonsense) = %v, want %v", err, handles.ErrKeyFile)
	}
	wantVerify(t, ring, h, nil)
	if got := ring.Mint(claims(handles.Send)); got != h {
		t.Error("a refused file changed the key that mints")
	}
}

func TestP17TenantEpoch(t *testing.T) {
	ring := newRing(t)
	c := claims(handles.Send)
	mine := ring.Mint(c)
	c.Tenant = 7
	theirs := ring.Mint(c)

	ring.SetTenantEpoch(4242, 1)
	wantVerify(t, ring, mine, handles.ErrRevoked)
	wantVerify(t, ring, theirs, nil)
	second := ring.Mint(claims(handles.Send))
	wantVerify(t, ring, second, nil)

	ring.SetTenantEpoch(4242, 0)
	wantVerify(t, ring, mine, handles.ErrRevoked) // going back would bring it to life
	wantVerify(t, ring, second, nil)

	if err := ring.Replace([]byte(keyLine("3", "accept", rootA) + keyLine("4", "mint", rootB))); err != nil {
		t.Fatal(err)
	}
	wantVerify(t, ring, mine, handles.ErrRevoked) // epochs outlive a change of keys
	wantVerify(t, ring, second, nil)

	ring.SetTenantEpoch(4242, 2)
	wantVerify(t, ring, mine, handles.ErrInvalid) // two epochs ago
	wantVerify(t, ring, second, handles.ErrRevoked)

	restarted := newRing(t)
	restarted.SetTenantEpoch(4242, 2)
	wantVerify(t, restarted, second, handles.ErrRevoked) // told without memory of the bump
}

// TestConcurrentUse is for the race detector; and at no moment may a key in accept fail.
func TestConcurrentUse(t *testing.T) {
	first := []byte(keyLine("1", "mint", rootA) + keyLine("2", "accept", rootB))
	second := []byte(keyLine("1", "accept", rootA) + keyLine("2", "mint", rootB))
	ring, err := handles.ParseKeys("test", first)
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 200
	var writers, users sync.WaitGroup
	stop := make(chan struct{})
	for g := range 4 {
		users.Go(func() {
			c := claims(handles.Send)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				c.Tenant, c.Nonce = uint32(g%2+1+4096*(i%2)), uint64(i) // sharing places in the cache
				if h := ring.Mint(c); ring.Verify(h, c.Tenant, now) != nil {
					t.Errorf("Verify(%v) = %v", h, ring.Verify(h, c.Tenant, now))
					return
				}
			}
		})
	}
	writers.Go(func() {
		for range rounds {
			if err := errors.Join(ring.Replace(second), ring.Replace(first)); err != nil {
				t.Error(err)
			}
		}
	})
	writers.Go(func() {
		for i := range rounds {
			ring.SetTenantEpoch(99, uint32(i))
		}
	})
	writers.Wait()
	close(stop)
	users.Wait()
}

func TestNoAllocations(t *testing.T) {
	ring := newRing(t)
	h := ring.Mint(claims(handles.Send))
	text := h.Text()
	malformed := text[:68] + "!"
	bin, _ := h.MarshalBinary()
	bin[47] ^= 1
	garbage, _ := handles.ParseBytes(bin)
	buf := make([]byte, 0, 200)
	payload := fmt.Appendf(nil, "%s and %s", text, text)
	tests := map[string]func(){
		"Mint":             func() { ring.Mint(claims(handles.Send)) },
		"Verify":           func() { _ = ring.Verify(h, 4242, now) },
		"Verify forged":    func() { _ = ring.Verify(garbage, 4242, now) },
		"Parse":            func() { _, _ = handles.Parse(text) },
		"Parse malformed":  func() { _, _ = handles.Parse(malformed) },
		"ParseBytes":       func() { _, _ = handles.ParseBytes(bin) },
		"AppendText":       func() { _, _ = h.AppendText(buf) },
		"AppendBinary":     func() { _, _ = h.AppendBinary(buf) },
		"Scan two handles": func() { handles.Scan(payload, func(handles.Handle) {}) },
	}
	for name, f := range tests {
		if got := testing.AllocsPerRun(1000, f); got > 0 {
			t.Errorf("%s allocates %v times, want 0", name, got)
		}
	}
}
