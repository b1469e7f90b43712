package handles

import "encoding/base64"

// TextSize is the length of a handle's text form in characters, all of them ASCII.
const TextSize = prefixSize + bodySize

const (
	prefix     = "qh1" // then the letter of the kind and an underscore
	prefixSize = len(prefix) + 2
	bodySize   = Size * 4 / 3
	letters    = "-srl" // by kind; there is no kind 0
)

// Parse returns the handle with this text form. It is strict: exactly [TextSize] characters,
// the prefix in lower case and of the token's kind, base64url without padding or line breaks,
// known version and kind, reserved bits zero, tenant and expiry not zero. It never checks the
// MAC. The error is [ErrInvalid] and carries nothing of the text.
func Parse(text string) (Handle, error) { return parseText(text) }

// parseText allocates nothing, whichever of the two forms the text comes in.
func parseText[T string | []byte](text T) (h Handle, err error) {
	if len(text) != TextSize || string(text[:len(prefix)]) != prefix || text[prefixSize-1] != '_' {
		return Handle{}, ErrInvalid
	}
	var body [bodySize]byte
	copy(body[:], text[prefixSize:])
	// 64 characters are 48 whole bytes: no trailing bits exist that would need Strict. The
	// decoder skips line breaks, which shows in n.
	n, err := base64.RawURLEncoding.Decode(h.b[:], body[:])
	if err != nil || n != Size || !h.wellFormed() || text[len(prefix)] != letters[h.Kind()] {
		return Handle{}, ErrInvalid
	}
	return h, nil
}

// Text returns the text form, which is the secret itself, and "" for the zero Handle.
func (h Handle) Text() string {
	if h.IsZero() {
		return ""
	}
	var buf [TextSize]byte
	return string(h.appendText(buf[:0]))
}

func (h *Handle) appendText(b []byte) []byte {
	b = append(b, prefix...)
	b = append(b, letters[h.b[offKind]&0xf], '_')
	return base64.RawURLEncoding.AppendEncode(b, h.b[:])
}
