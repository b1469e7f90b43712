package handles

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strconv"
)

// Printing is redacted whatever the verb.
var (
	_ fmt.Formatter  = Handle{}
	_ fmt.GoStringer = Handle{}
	_ slog.LogValuer = Handle{}
)

// Fingerprint returns a name for the handle that is safe to print and long enough to find it
// in logs: the first 32 bits of the SHA-256 of its bytes, as 8 hexadecimal digits. It is ""
// for the zero Handle.
func (h Handle) Fingerprint() string {
	if h.IsZero() {
		return ""
	}
	sum := sha256.Sum256(h.b[:])
	return hex.EncodeToString(sum[:4])
}

// String returns kind, tenant and fingerprint, like handle(send,t=4242,#9f3a61c2), and
// handle(none) for the zero Handle. For the token itself, see [Handle.Text].
func (h Handle) String() string {
	if h.IsZero() {
		return "handle(none)"
	}
	tenant := strconv.FormatUint(uint64(h.Tenant()), 10)
	return "handle(" + h.Kind().String() + ",t=" + tenant + ",#" + h.Fingerprint() + ")"
}

// GoString returns the same as [Handle.String], for callers that do not go through Format.
func (h Handle) GoString() string { return h.String() }

// Format writes the same as [Handle.String] for every verb and flag, %x and %#v included.
func (h Handle) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, h.String()) // fmt has no way to pass an error on
}

// LogValue returns the same as [Handle.String]. It is not asked for handles inside structs,
// slices and maps: see the package comment.
func (h Handle) LogValue() slog.Value { return slog.StringValue(h.String()) }
