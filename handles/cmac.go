package handles

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// cmac is AES-CMAC as in NIST SP 800-38B and RFC 4493. It is immutable.
type cmac struct {
	block  cipher.Block
	k1, k2 [aes.BlockSize]byte // for a last block that is whole, and one that is not
}

// newCMAC takes a key of 16, 24 or 32 bytes.
func newCMAC(key []byte) (*cmac, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	c := &cmac{block: block}
	block.Encrypt(c.k1[:], c.k1[:])
	double(&c.k1)
	c.k2 = c.k1
	double(&c.k2)
	return c, nil
}

// double multiplies by x in GF(2^128), in constant time.
func double(b *[aes.BlockSize]byte) {
	carry := b[0] >> 7
	for i := range len(b) - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[15] = b[15]<<1 ^ carry*0x87
}

// sum leaves the tag of msg in x. The caller brings x because a local array would be
// allocated: it escapes into the interface that aes hides its cipher behind.
func (c *cmac) sum(x *[aes.BlockSize]byte, msg []byte) {
	clear(x[:])
	for len(msg) > aes.BlockSize {
		subtle.XORBytes(x[:], x[:], msg[:aes.BlockSize])
		c.block.Encrypt(x[:], x[:])
		msg = msg[aes.BlockSize:]
	}
	last := &c.k1
	if len(msg) < aes.BlockSize {
		x[len(msg)] ^= 0x80
		last = &c.k2
	}
	subtle.XORBytes(x[:], x[:], msg)
	subtle.XORBytes(x[:], x[:], last[:])
	c.block.Encrypt(x[:], x[:])
}
