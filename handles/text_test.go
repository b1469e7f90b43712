package handles_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/replyq/replyq/handles"
)

func TestTextRoundTrip(t *testing.T) {
	ring := newRing(t)
	prefixes := map[handles.Kind]string{handles.Send: "qh1s_", handles.Receive: "qh1r_", handles.Lease: "qh1l_"}
	for _, kind := range kinds() {
		h := ring.Mint(claims(kind))
		text := h.Text()
		if len(text) != handles.TextSize || !strings.HasPrefix(text, prefixes[kind]) {
			t.Errorf("Text() of a %v handle has %d characters and prefix %q, want %d and %q",
				kind, len(text), text[:5], handles.TextSize, prefixes[kind])
		}
		got, err := handles.Parse(text)
		if err != nil || got != h {
			t.Errorf("Parse(Text()) = %v, %v, want %v", got, err, h)
		}
	}
}

func TestParseIsStrict(t *testing.T) {
	ring := newRing(t)
	text := ring.Mint(claims(handles.Send)).Text()
	prefix, body := text[:5], text[5:]
	b, _ := ring.Mint(claims(handles.Send)).MarshalBinary()
	replace := func(i int, with string) string { return body[:i] + with + body[i+len(with):] }
	tests := map[string]string{
		"empty":                    "",
		"prefix only":              prefix,
		"no prefix":                body,
		"binary form":              string(b),
		"one character short":      text[:len(text)-1],
		"one character long":       text + "A",
		"one byte short":           prefix + base64.RawURLEncoding.EncodeToString(b[:47]),
		"one byte long":            prefix + base64.RawURLEncoding.EncodeToString(append(b, 0)),
		"non-zero trailing bits":   prefix + base64.RawURLEncoding.EncodeToString(b[:47])[:62] + "_",
		"padding after":            text + "=",
		"padding inside":           prefix + replace(62, "=="),
		"padded group":             prefix + base64.URLEncoding.EncodeToString(b[:47]),
		"space before":             " " + text,
		"space after":              text + " ",
		"space inside":             prefix + replace(30, " "),
		"line break after":         text + "\n",
		"line break inside":        prefix + body[:30] + "\n" + body[30:],
		"line break for character": prefix + replace(30, "\n"),
		"four line breaks inside":  prefix + replace(28, "\r\n\r\n"),
		"standard alphabet +":      prefix + replace(30, "+"),
		"standard alphabet /":      prefix + replace(30, "/"),
		"zero byte inside":         prefix + replace(30, "\x00"),
		"not ASCII":                prefix + replace(30, "é"),
		"percent encoded":          "qh1s%5F" + body,
		"upper-case prefix":        strings.ToUpper(prefix) + body,
		"upper-case kind":          "qh1S_" + body,
		"prefix of another kind":   "qh1r_" + body,
		"prefix of a lease token":  "qh1l_" + body,
		"prefix of no kind":        "qh1x_" + body,
		"prefix of kind 0":         "qh1-_" + body,
		"other version":            "qh2s_" + body,
		"other separator":          "qh1s-" + body,
		"twice":                    text + text,
		"all zero":                 prefix + strings.Repeat("A", 64),
		"all ones":                 prefix + strings.Repeat("_", 64),
		"printed form":             ring.Mint(claims(handles.Send)).String(),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			h, err := handles.Parse(text)
			if !errors.Is(err, handles.ErrInvalid) || !h.IsZero() {
				t.Fatalf("Parse(%q) = %v, %v, want the zero Handle, %v", text, h, err, handles.ErrInvalid)
			}
			if got, want := err.Error(), handles.ErrInvalid.Error(); got != want {
				t.Errorf("error text = %q, want %q and nothing of the input", got, want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	ring := newRing(f)
	for _, kind := range kinds() {
		f.Add(ring.Mint(claims(kind)).Text())
	}
	f.Add("")
	f.Add("qh1s_" + strings.Repeat("A", 64))
	f.Add("qh1s_" + strings.Repeat("\n", 64))
	f.Fuzz(func(t *testing.T, text string) {
		h, err := handles.Parse(text)
		if err != nil {
			if !errors.Is(err, handles.ErrInvalid) || !h.IsZero() {
				t.Fatalf("Parse(%q) = %v, %v, want the zero Handle, %v", text, h, err, handles.ErrInvalid)
			}
			return
		}
		if got := h.Text(); got != text {
			t.Fatalf("Parse(%q).Text() = %q", text, got)
		}
		b, _ := h.MarshalBinary()
		if got, err := handles.ParseBytes(b); err != nil || got != h {
			t.Fatalf("ParseBytes of the same = %v, %v, want %v", got, err, h)
		}
		// A forger without the key: no input that is not a seed may pass.
		if ring.Verify(h, h.Tenant(), now) == nil && h != ring.Mint(claims(h.Kind())) {
			t.Fatalf("Verify accepted a forged %q", text)
		}
	})
}
