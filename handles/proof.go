package handles

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// A proof shows that whoever made it has the same keys. It is the id of the key, as two hexadecimal digits, and an
// HMAC-SHA-256 under a key that is derived from that one, for its purpose and for nothing else.

// proofLabel keeps the keys of proofs apart from those of tenants' handles.
const proofLabel = "proof/v1\x00\x00"

// Prove makes a proof, in ASCII, that data was written by somebody who has these keys. The purpose says what it is good
// for: a proof for one is none for another. It does not expire with time, only when its key is dropped.
func (r *KeyRing) Prove(purpose string, data []byte) string {
	state := r.state.Load()
	id := []byte{state.mint}
	return hex.EncodeToString(id) + base64.RawURLEncoding.EncodeToString(state.keys[state.mint].root.prove(purpose, data))
}

// Proven reports whether proof is one that [KeyRing.Prove] has made of data for this purpose, under any key of the ring
// that is not dropped.
func (r *KeyRing) Proven(purpose string, data []byte, proof string) bool {
	if len(proof) < 2 {
		return false
	}
	id, err := hex.DecodeString(proof[:2])
	if err != nil {
		return false
	}
	key := r.state.Load().keys[id[0]]
	if key.root == nil || key.dropped {
		return false
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(proof[2:])
	return err == nil && len(mac) == sha256.Size && hmac.Equal(mac, key.root.prove(purpose, data))
}

func (k *rootKey) prove(purpose string, data []byte) []byte {
	key, err := hkdf.Expand(sha256.New, k.prk[:], proofLabel+purpose, sha256.Size)
	if err != nil {
		return nil // unreachable: neither key nor length is out of bounds
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(data)
	return mac.Sum(nil)
}
