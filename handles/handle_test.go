package handles_test

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/handles"
)

// now is the time of all tests; handles made by mint expire a minute later.
var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// Two roots for key files. They are as good as any for tests, and no good for anything else.
const (
	rootA = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
	rootB = "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
)

func keyLine(id, state, root string) string {
	return id + " " + state + " 2026-01-01T00:00:00Z " + root + "\n"
}

func newRing(t testing.TB) *handles.KeyRing {
	t.Helper()
	ring, err := handles.ParseKeys("test", []byte(keyLine("3", "mint", rootA)))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// claims has a distinct value in each field.
func claims(kind handles.Kind) handles.Claims {
	return handles.Claims{
		Kind:    kind,
		Tenant:  4242,
		Shard:   0x0102,
		Attempt: 0x0304,
		Store:   0x05060708,
		Slot:    0x090a0b0c,
		Nonce:   0x0d0e0f1011121314,
		Expires: now.Unix() + 60,
	}
}

func kinds() []handles.Kind { return []handles.Kind{handles.Send, handles.Receive, handles.Lease} }

func TestAccessors(t *testing.T) {
	ring := newRing(t)
	for _, kind := range kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			want := claims(kind)
			h := ring.Mint(want)
			if kind != handles.Lease {
				want.Attempt = 0
			}
			got := handles.Claims{
				Kind:    h.Kind(),
				Tenant:  h.Tenant(),
				Shard:   h.Shard(),
				Attempt: h.Attempt(),
				Store:   h.Store(),
				Slot:    h.Slot(),
				Nonce:   h.Nonce(),
				Expires: h.Expiry().Unix(),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("accessors (-want +got):\n%s", diff)
			}
			if h.KeyID() != 3 {
				t.Errorf("KeyID() = %d, want 3", h.KeyID())
			}
			if h.IsZero() {
				t.Error("IsZero() = true")
			}
		})
	}
}

func TestZeroHandle(t *testing.T) {
	var h handles.Handle
	if !h.IsZero() {
		t.Error("IsZero() = false")
	}
	if h.Kind() != 0 || h.KeyID() != 0 || h.Tenant() != 0 || h.Nonce() != 0 || !h.Expiry().IsZero() {
		t.Error("an accessor is not zero")
	}
	if h.Text() != "" || h.Fingerprint() != "" {
		t.Errorf("Text() = %q, Fingerprint() = %q, want both empty", h.Text(), h.Fingerprint())
	}
	if err := newRing(t).Verify(h, 1, now); !errors.Is(err, handles.ErrInvalid) {
		t.Errorf("Verify = %v, want %v", err, handles.ErrInvalid)
	}
}

func TestKindString(t *testing.T) {
	want := map[handles.Kind]string{0: "kind(0)", handles.Send: "send", handles.Receive: "receive", handles.Lease: "lease", 15: "kind(15)"}
	for kind, want := range want {
		if got := kind.String(); got != want {
			t.Errorf("Kind(%d).String() = %q, want %q", uint8(kind), got, want)
		}
	}
}

func TestExpiryIsClamped(t *testing.T) {
	epoch := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	last := epoch + math.MaxUint32
	tests := []struct {
		name      string
		give, get int64
	}{
		{"never set", 0, epoch + 1},
		{"minimum", math.MinInt64, epoch + 1},
		{"epoch", epoch, epoch + 1},
		{"first", epoch + 1, epoch + 1},
		{"last", last, last},
		{"past last", last + 1, last},
		{"maximum", math.MaxInt64, last},
	}
	ring := newRing(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := ring.Mint(handles.Claims{Kind: handles.Send, Tenant: 1, Expires: tt.give})
			if got := h.Expiry().Unix(); got != tt.get {
				t.Errorf("Mint with Expires %d: Expiry() = %d, want %d", tt.give, got, tt.get)
			}
		})
	}
}

func TestMintRefusesIncompleteClaims(t *testing.T) {
	ring := newRing(t)
	tests := map[string]handles.Claims{
		"no tenant":        {Kind: handles.Send, Expires: now.Unix()},
		"no kind":          {Tenant: 1, Expires: now.Unix()},
		"unknown kind":     {Kind: 4, Tenant: 1, Expires: now.Unix()},
		"kind over 4 bits": {Kind: 0x11, Tenant: 1, Expires: now.Unix()},
	}
	for name, c := range tests {
		if h := ring.Mint(c); !h.IsZero() {
			t.Errorf("%s: Mint(%+v) = %v, want the zero Handle", name, c, h)
		}
	}
}

func TestParseBytes(t *testing.T) {
	ring := newRing(t)
	valid := func(kind handles.Kind) []byte {
		b, _ := ring.Mint(claims(kind)).MarshalBinary()
		return b
	}
	set := func(kind handles.Kind, off int, bytes ...byte) []byte {
		b := valid(kind)
		copy(b[off:], bytes)
		return b
	}
	tests := []struct {
		name string
		give []byte
		ok   bool
	}{
		{"send", valid(handles.Send), true},
		{"receive", valid(handles.Receive), true},
		{"lease", valid(handles.Lease), true},
		{"key id that nobody knows", set(handles.Send, 1, 99), true},
		{"wrong tag", set(handles.Send, 32, make([]byte, 16)...), true},
		{"nil", nil, false},
		{"short", valid(handles.Send)[:47], false},
		{"long", append(valid(handles.Send), 0), false},
		{"all zero", make([]byte, 48), false},
		{"all ones", bytes.Repeat([]byte{0xff}, 48), false},
		{"version 0", set(handles.Send, 0, 0x01), false},
		{"version 2", set(handles.Send, 0, 0x21), false},
		{"kind 0", set(handles.Send, 0, 0x10), false},
		{"kind 4", set(handles.Send, 0, 0x14), false},
		{"first reserved byte", set(handles.Send, 2, 1), false},
		{"second reserved byte", set(handles.Lease, 3, 0x80), false},
		{"attempt in a send handle", set(handles.Send, 11, 1), false},
		{"attempt in a receive handle", set(handles.Receive, 10, 1), false},
		{"tenant 0", set(handles.Send, 4, 0, 0, 0, 0), false},
		{"expiry 0", set(handles.Lease, 28, 0, 0, 0, 0), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := handles.ParseBytes(tt.give)
			if tt.ok {
				if err != nil || h.IsZero() {
					t.Errorf("ParseBytes = %v, %v, want a handle", h, err)
				}
				return
			}
			if !errors.Is(err, handles.ErrInvalid) || !h.IsZero() {
				t.Errorf("ParseBytes = %v, %v, want the zero Handle, %v", h, err, handles.ErrInvalid)
			}
		})
	}
}

func TestParseBytesCopies(t *testing.T) {
	b, _ := newRing(t).Mint(claims(handles.Send)).MarshalBinary()
	h, err := handles.ParseBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	before := h
	clear(b)
	if h != before {
		t.Error("clearing the parsed bytes changed the handle")
	}
}
