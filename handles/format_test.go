package handles_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/replyq/replyq/handles"
)

// leak returns the encoding in which out shows part of the nonce or the tag of h, or "".
func leak(out string, h handles.Handle) string {
	b, _ := h.MarshalBinary()
	text := h.Text()
	for _, secret := range [][]byte{b[20:24], b[24:28], b[32:36], b[44:48]} {
		decimal := decimals(secret)
		syntax := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}")
		for name, form := range map[string]string{
			"hexadecimal":        hex.EncodeToString(secret),
			"spaced hexadecimal": fmt.Sprintf("% x", secret),
			"decimal":            decimal,
			"decimal list":       strings.ReplaceAll(decimal, " ", ", "),
			"Go syntax":          syntax,
			"raw bytes":          string(secret),
		} {
			if strings.Contains(strings.ToLower(out), strings.ToLower(form)) {
				return name
			}
		}
	}
	for _, secret := range []string{text[33:41], text[48:56], text[60:68]} {
		if strings.Contains(out, secret) {
			return "text form"
		}
	}
	if strings.Contains(out, base64.StdEncoding.EncodeToString(b[33:45])) {
		return "base64"
	}
	return ""
}

// decimals is how package fmt prints bytes, without the brackets.
func decimals(b []byte) string { return strings.Trim(fmt.Sprintf("%d", b), "[]") }

func TestString(t *testing.T) {
	h := newRing(t).Mint(claims(handles.Send))
	b, _ := h.MarshalBinary()
	sum := sha256.Sum256(b)
	want := "handle(send,t=4242,#" + hex.EncodeToString(sum[:])[:8] + ")"
	if got := h.String(); got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if got := h.GoString(); got != want {
		t.Errorf("GoString() = %q, want %q", got, want)
	}
	if got := h.Fingerprint(); got != hex.EncodeToString(sum[:])[:8] {
		t.Errorf("Fingerprint() = %q, want the first 8 digits of %x", got, sum)
	}
	if got, want := (handles.Handle{}).String(), "handle(none)"; got != want {
		t.Errorf("String() of the zero Handle = %q, want %q", got, want)
	}
}

func TestPrintingIsRedacted(t *testing.T) {
	h := newRing(t).Mint(claims(handles.Send))
	type inner struct{ ReplyTo handles.Handle }
	type embedded struct{ handles.Handle }
	values := map[string]any{
		"handle":    h,
		"pointer":   &h,
		"slice":     []handles.Handle{h},
		"array":     [1]handles.Handle{h},
		"map":       map[string]handles.Handle{"audit": h},
		"map key":   map[handles.Handle]bool{h: true},
		"struct":    inner{h},
		"to struct": &inner{h},
		"embedded":  embedded{h},
		"interface": []any{h, inner{h}},
		"error":     fmt.Errorf("reply through %v: %w", h, handles.ErrExpired),
		"join":      errors.Join(fmt.Errorf("%x", h), fmt.Errorf("%#v", inner{h})),
	}
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%b", "%c", "%U", "%t", "%e", "%100v", "%.3s"}
	for name, value := range values {
		for _, verb := range verbs {
			out := fmt.Sprintf(verb, value)
			if how := leak(out, h); how != "" {
				t.Errorf("%s printed with %s shows the token as %s: %s", name, verb, how, out)
			}
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d"} { // shows the address
		if out := fmt.Sprintf(verb, []*inner{{h}}); leak(out, h) != "" {
			t.Errorf("slice of pointers printed with %s shows the token: %s", verb, out)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%80v"} {
		if got := fmt.Sprintf(verb, h); got != h.String() {
			t.Errorf("Sprintf(%q, h) = %s, want %s", verb, got, h)
		}
	}
}

func TestLogsAreRedacted(t *testing.T) {
	h := newRing(t).Mint(claims(handles.Send))
	type request struct{ ReplyTo handles.Handle }
	makers := map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	}
	for name, maker := range makers {
		var buf bytes.Buffer
		log := slog.New(maker(&buf)).With("with", h)
		log.Info("reply", "handle", h, "pointer", &h, slog.Group("pipe", "send", h), "err", fmt.Errorf("bad %v", h))
		out := buf.String()
		if how := leak(out, h); how != "" {
			t.Errorf("%s handler shows the token as %s: %s", name, how, out)
		}
		if got := strings.Count(out, h.Fingerprint()); got != 5 {
			t.Errorf("%s handler shows the fingerprint %d times, want 5: %s", name, got, out)
		}
	}
	var buf bytes.Buffer
	slog.New(slog.NewTextHandler(&buf, nil)).Info("reply", "request", request{h}, "list", []handles.Handle{h})
	if how := leak(buf.String(), h); how != "" {
		t.Errorf("text handler shows the token in a struct as %s: %s", how, buf.String())
	}
}

// TestRedactionHasTheseLimits keeps the package comment true: when Go offers a way to close
// one of these, it fails, and the warning can go.
func TestRedactionHasTheseLimits(t *testing.T) {
	h := newRing(t).Mint(claims(handles.Send))
	type request struct{ ReplyTo handles.Handle }
	if leak(fmt.Sprint(struct{ h handles.Handle }{h}), h) == "" {
		t.Error("package fmt now redacts unexported fields")
	}
	misfit := "%s"
	if leak(fmt.Sprintf(misfit, []*request{{h}}), h) == "" { //nolint:staticcheck // it does not fit on purpose
		t.Error("package fmt now redacts what it complains about")
	}
	var buf bytes.Buffer
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("reply", "request", request{h})
	if leak(buf.String(), h) == "" {
		t.Error("slog.JSONHandler now redacts fields of structs")
	}
}

func TestKeyRingPrintsNoKey(t *testing.T) {
	ring := newRing(t)
	ring.Mint(claims(handles.Send))
	root, _ := hex.DecodeString(rootA)
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		out := fmt.Sprintf(verb, ring)
		for _, form := range []string{rootA[:8], decimals(root[:4])} {
			if strings.Contains(out, form) {
				t.Errorf("%s prints the root: %s", verb, out)
			}
		}
		if len(out) > 1000 {
			t.Errorf("%s prints %d characters, too many to hold no key", verb, len(out))
		}
	}
}
