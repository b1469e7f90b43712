package handles

import (
	"crypto/aes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestVectors checks every step against testdata/vectors.json, whose values were made with
// another implementation of HKDF and CMAC. If it fails, tokens in the field stop verifying:
// a change of format needs a new version, not new vectors.
func TestVectors(t *testing.T) {
	file, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Root, Cluster, Label string
		Vectors              []struct {
			Name, Kind     string
			KeyID          uint8 `json:"key_id"`
			Tenant         uint32
			TenantEpoch    uint32 `json:"tenant_epoch"`
			Shard, Attempt uint16
			Store, Slot    uint32
			Nonce          string
			Expires        int64
			Info           string
			DerivedKey     string `json:"derived_key"`
			Head, Tag      string
			Token          string
		}
	}
	if err := json.Unmarshal(file, &doc); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString([]byte(label)); got != doc.Label {
		t.Fatalf("label = %s, want %s", got, doc.Label)
	}
	if len(doc.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range doc.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			nonce, err := strconv.ParseUint(v.Nonce, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			ring, err := ParseKeys(doc.Cluster, fmt.Appendf(nil, "%d mint 2026-01-01T00:00:00Z %s", v.KeyID, doc.Root))
			if err != nil {
				t.Fatal(err)
			}
			ring.SetTenantEpoch(v.Tenant, v.TenantEpoch)
			kind := map[string]Kind{"send": Send, "receive": Receive, "lease": Lease}[v.Kind]
			h := ring.Mint(Claims{
				Kind: kind, Tenant: v.Tenant, Shard: v.Shard, Attempt: v.Attempt,
				Store: v.Store, Slot: v.Slot, Nonce: nonce, Expires: v.Expires,
			})
			if got := hex.EncodeToString(h.b[:offTag]); got != v.Head {
				t.Errorf("head = %s, want %s", got, v.Head)
			}
			if got := hex.EncodeToString(h.b[offTag:]); got != v.Tag {
				t.Errorf("tag = %s, want %s", got, v.Tag)
			}
			if got := h.Text(); got != v.Token {
				t.Errorf("token = %s, want %s", got, v.Token)
			}
			parsed, err := Parse(v.Token)
			if err != nil {
				t.Fatalf("Parse = %v", err)
			}
			if err := ring.Verify(parsed, v.Tenant, time.Unix(v.Expires-1, 0)); err != nil {
				t.Errorf("Verify = %v", err)
			}

			// The derived key is known to the ring alone; what it computes shows that it is the same.
			mac, err := newCMAC(unhex(t, v.DerivedKey))
			if err != nil {
				t.Fatal(err)
			}
			var tag [aes.BlockSize]byte
			mac.sum(&tag, unhex(t, v.Head))
			if got := hex.EncodeToString(tag[:]); got != v.Tag {
				t.Errorf("tag under derived_key = %s, want %s", got, v.Tag)
			}
		})
	}
}
