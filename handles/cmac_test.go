package handles

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCMACKnownAnswers uses the examples of RFC 4493 (128-bit key) and of NIST SP 800-38B
// (192 and 256).
func TestCMACKnownAnswers(t *testing.T) {
	msg := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"+
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	tests := []struct {
		name, key, k1, k2 string
		tags              map[int]string // by length of the message
	}{
		{
			name: "aes-128", key: "2b7e151628aed2a6abf7158809cf4f3c",
			k1: "fbeed618357133667c85e08f7236a8de", k2: "f7ddac306ae266ccf90bc11ee46d513b",
			tags: map[int]string{
				0:  "bb1d6929e95937287fa37d129b756746",
				16: "070a16b46b4d4144f79bdd9dd04a287c",
				40: "dfa66747de9ae63030ca32611497c827",
				64: "51f0bebf7e3b9d92fc49741779363cfe",
			},
		},
		{
			name: "aes-192", key: "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
			k1: "448a5b1c93514b273ee6439dd4daa296", k2: "8914b63926a2964e7dcc873ba9b5452c",
			tags: map[int]string{
				0:  "d17ddf46adaacde531cac483de7a9367",
				16: "9e99a7bf31e710900662f65e617c5184",
				40: "8a1de5be2eb31aad089a82e6ee908b0e",
				64: "a1d5df0eed790f794d77589659f39a11",
			},
		},
		{
			name: "aes-256", key: "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
			k1: "cad1ed03299eedac2e9a99808621502f", k2: "95a3da06533ddb585d3533010c42a0d9",
			tags: map[int]string{
				0:  "028962f61b7bf89efc6b551f4667d983",
				16: "28a7023f452e8f82bd4bf28d8c37c35c",
				40: "aaf3d8f1de5640c232f5b169b9c911e6",
				64: "e1992190549f6ed5696a2c056c315410",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := newCMAC(unhex(t, tt.key))
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(c.k1[:]); got != tt.k1 {
				t.Errorf("k1 = %s, want %s", got, tt.k1)
			}
			if got := hex.EncodeToString(c.k2[:]); got != tt.k2 {
				t.Errorf("k2 = %s, want %s", got, tt.k2)
			}
			for n, want := range tt.tags {
				var x [aes.BlockSize]byte
				c.sum(&x, msg[:n])
				if got := hex.EncodeToString(x[:]); got != want {
					t.Errorf("sum of %d bytes = %s, want %s", n, got, want)
				}
			}
		})
	}
}

func TestCMACRefusesKeyLength(t *testing.T) {
	if _, err := newCMAC(make([]byte, 20)); err == nil {
		t.Error("newCMAC with 20 bytes = nil error")
	}
}

// BenchmarkMAC is the base of docs/decisions/0002-handle-mac.md: the tag of one handle by each
// candidate, key set up beforehand. HMAC runs over the label too, as it would have to if the
// label were not in the key; 32 or 48 bytes are one block of SHA-256 all the same.
func BenchmarkMAC(b *testing.B) {
	for _, bits := range []int{128, 256} {
		b.Run(map[int]string{128: "aes-128-cmac", 256: "aes-256-cmac"}[bits], func(b *testing.B) {
			c, err := newCMAC(make([]byte, bits/8))
			if err != nil {
				b.Fatal(err)
			}
			var (
				msg [offTag]byte
				x   [aes.BlockSize]byte
			)
			b.ReportAllocs()
			for b.Loop() {
				c.sum(&x, msg[:])
			}
		})
	}
	b.Run("hmac-sha256", func(b *testing.B) {
		mac := hmac.New(sha256.New, make([]byte, 32))
		msg := make([]byte, len(label)+offTag)
		var sum [sha256.Size]byte
		b.ReportAllocs()
		for b.Loop() {
			mac.Reset() // to the state after the pads, which it keeps
			_, _ = mac.Write(msg)
			mac.Sum(sum[:0])
		}
	})
}
